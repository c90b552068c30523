"""Health checks of an application, and the endpoints that report them."""
