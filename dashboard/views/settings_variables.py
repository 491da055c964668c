"""The variables that send telemetry somewhere, as lines to copy into a terminal."""

from __future__ import annotations

import streamlit as st

from dashboard import telemetry
from dashboard.telemetry import Variables
from eventbus.telemetry.environment import OtlpProtocol, Signal


def variables() -> None:
    """Draw the form, and beside it the lines that it makes."""
    st.subheader("Variables to copy")
    left, right = st.columns([2, 3], gap="large")
    with left:
        chosen = _form()
    with right:
        problem = chosen.problem
        if problem is not None:
            st.warning(problem, icon=":material/edit:")
            return
        install = ['pip install -e ".[otel]"'] if telemetry.packages_missing() else []
        lines = [*install, *chosen.lines(), "streamlit run dashboard"]
        st.code("\n".join(lines), language=None, wrap_lines=True)  # colours of a language would be too pale to read
        st.markdown(  # a caption would make the code in it too pale to read
            ":small[In a terminal, in the folder of AckScope. The same variables count for `python -m eventbus load` "
            "and for `eventbus.telemetry.setup()` in an application of yours. A collector that wants a key takes it "
            "from `OTEL_EXPORTER_OTLP_HEADERS`. All names: `docs/telemetry.md`. A collector, Prometheus with alerts "
            "and a Grafana dashboard, ready to use: `deploy/README.md`.]"
        )


def _form() -> Variables:
    signals = st.pills(
        "To a collector, by OTLP",
        list(Signal),
        selection_mode="multi",
        default=list(Signal),
        format_func=str.capitalize,
        key="otlp_signals",
        persist_state="session",
    )
    protocol = st.segmented_control(
        "Protocol",
        list(OtlpProtocol),
        default=OtlpProtocol.GRPC,
        required=True,
        format_func=lambda protocol: protocol.value,
        key="otlp_protocol",
        persist_state="session",
        disabled=not signals,
    )
    protocol = protocol or OtlpProtocol.GRPC
    endpoint = st.text_input(
        "Endpoint",
        telemetry.ENDPOINTS[protocol],
        key=f"otlp_endpoint_{protocol.name}",  # each protocol has a port of its own
        persist_state="session",
        disabled=not signals,
        help="Where the collector listens: `https://` encrypts. For HTTP the path of each signal is added to it.",
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        served = st.toggle(
            "Metrics for Prometheus",
            key="prometheus",
            persist_state="session",
            help="A worker serves `/metrics` on this machine while its run goes on, for Prometheus to scrape.",
        )
        port = st.number_input(
            "Port",
            1,
            65_535,
            telemetry.PROMETHEUS_PORT,
            key="prometheus_port",
            width=130,
            persist_state="session",
            disabled=not served,
            help=f"`deploy/prometheus.yml` scrapes {telemetry.PROMETHEUS_PORT}.",
        )
    return Variables(tuple(signals or ()), (endpoint or "").strip(), protocol, int(port) if served else None)
