"""The plain door: any HTTP server behind the gateway, streamed both ways and woken by requests."""
