"""OpenTelemetry for every ack outcome. The library part needs the API only; ``setup`` is for applications."""
