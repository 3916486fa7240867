"""A body of 10 KiB, the size of a small page."""

BODY = b"x" * (10 << 10)
HEADERS = [("Content-Type", "text/plain"), ("Content-Length", str(len(BODY)))]


def application(environ, start_response):
    start_response("200 OK", HEADERS)
    return [BODY]
