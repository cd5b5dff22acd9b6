"""The point-of-care page and its API: one command on the device, a browser on any screen beside it.

    station     open interpreters and what one image yields
    admission   how many requests are read and answered at a time
    uploads     bytes of an image out of a request, within limits
    throttle    wrong tokens per address
    guard       token, hosts, origins, security headers, and no detail of an error in an answer
    app         routes
    live        WebSocket for frames: the newest wins
    metrics     counters for /metrics
    openapi     the description of the API
    assets/     the page: plain HTML, CSS and JavaScript

No image is written to disk or logged, and the page loads nothing from elsewhere.
"""
