"""The point-of-care page and its API: one command on the device, a browser on any screen beside it.

    station     open interpreters, and the answer to one image
    admission   how many requests are read and answered at a time
    uploads     the bytes of an image from a request, within limits
    throttle    limits wrong tokens per address
    access      token, hosts, origins, security headers; keeps details of errors out of answers
    app         routes
    live        WebSocket for frames: the newest wins
    metrics     counters for /metrics
    openapi     the description of the API
    assets/     the page: plain HTML, CSS and JavaScript

No image is written to disk or logged, and the page loads nothing from elsewhere.
"""
