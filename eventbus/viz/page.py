"""The look of the HTML report: its style sheet, and the script that draws its charts."""

STYLE = """
:root { color-scheme: light; --page: #FFFFFF; --card: #F3F6F9; --text: #0E161E; --soft: #5F6B78; --line: #D5DCE4;
  --good: #00734F; --bad: #B34700; }
:root[data-theme=dark] { color-scheme: dark; --page: #0E141B; --card: #18212B; --text: #E8EDF2; --soft: #97A3B0;
  --line: #2B3744; --good: #1FBF92; --bad: #F0792B; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 24px 20px; }
header { display: flex; justify-content: space-between; gap: 16px; align-items: flex-start; }
h1 { font-size: 1.5rem; line-height: 1.3; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 0 0 8px; }
p { margin: 0 0 4px; }
section { margin: 24px 0 0; }
button { background: var(--card); color: inherit; border: 1px solid var(--line); border-radius: 8px; font-size: 1.1rem;
  width: 38px; height: 38px; flex: none; cursor: pointer; }
.sub, footer { color: var(--soft); }
.sub { font-size: 0.87rem; overflow-wrap: anywhere; }
.notes { white-space: pre-wrap; margin-top: 8px; }
.error, .bad { color: var(--bad); }
.good { color: var(--good); }
.badge { display: inline-block; font-size: 0.78rem; font-weight: 600; border: 1px solid currentColor; padding: 1px 9px;
  border-radius: 99px; vertical-align: middle; white-space: nowrap; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 10px 14px; }
.card span { display: block; color: var(--soft); font-size: 0.85rem; }
.card b { font-size: 1.45rem; font-weight: 600; font-variant-numeric: tabular-nums; white-space: nowrap; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(520px, 100%), 1fr)); gap: 12px; }
.full { grid-column: 1 / -1; }
.chart { margin: 0; border: 1px solid var(--line); border-radius: 8px; min-width: 0; height: 300px; overflow: hidden; }
.wide { overflow-x: auto; }
.wide table { min-width: 760px; }
table { border-collapse: collapse; width: 100%; font-size: 0.9rem; }
th { text-align: left; color: var(--soft); font-weight: 600; white-space: nowrap; }
th, td { border-bottom: 1px solid var(--line); padding: 5px 12px 5px 0; vertical-align: top;
  overflow-wrap: break-word; }
td { font-variant-numeric: tabular-nums; }
td:first-child { white-space: nowrap; }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(270px, 1fr)); gap: 0 32px; margin: 0; }
.pairs div { display: flex; justify-content: space-between; gap: 12px; border-bottom: 1px solid var(--line);
  padding: 5px 0; font-size: 0.9rem; }
.pairs dt { color: var(--soft); }
.pairs dd { margin: 0; font-variant-numeric: tabular-nums; text-align: right; overflow-wrap: anywhere; }
.r { text-align: right; white-space: nowrap; }
code { font: 0.86rem ui-monospace, monospace; }
.empty { color: var(--soft); margin: 32px 0; }
footer { margin-top: 32px; font-size: 0.85rem; }
@media print { button { display: none; } .chart, tr { break-inside: avoid; } }
"""

SCRIPT = """
const root = document.documentElement, system = matchMedia("(prefers-color-scheme: dark)");
const charts = Object.entries(CHARTS).map(([name, chart]) => [document.getElementById("chart-" + name), chart]);
const config = {responsive: true, displaylogo: false, displayModeBar: "hover",
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "sendDataToCloud"]};
function coloured(chart, theme) {
  let text = JSON.stringify(chart);
  for (const [colour, brighter] of Object.entries(theme === "dark" ? BRIGHTER : {}))
    text = text.replaceAll(colour, brighter);
  return JSON.parse(text);
}
async function show(theme) {
  root.dataset.theme = theme;
  for (const [box, chart] of charts) {
    const {data, layout} = coloured(chart, theme);
    await Plotly.react(box, data, layout, config);
    await Plotly.relayout(box, THEMES[theme]);
  }
  root.dataset.drawn = charts.length;
}
const wanted = () => system.matches ? "dark" : "light";
show(wanted());
system.addEventListener("change", () => show(wanted()));
document.getElementById("theme").addEventListener("click",
  () => show(root.dataset.theme === "dark" ? "light" : "dark"));
"""
