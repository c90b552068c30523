"""OpenTelemetry: instrumentation of libraries, and metrics from the spans that they make."""
