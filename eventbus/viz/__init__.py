"""Pictures of runs: samples to steps of time, to frames, to charts, to one HTML file. Pure; pandas and plotly late."""
