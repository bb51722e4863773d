"""HTTP and WebSocket; no decisions."""
