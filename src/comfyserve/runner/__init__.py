"""What runs beside or inside a replica; never imported by the server."""
