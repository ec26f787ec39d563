"""What is wrong with an endpoint: a few small calls are made, looked at, and compared.

This folder is sans-IO. `apis` says what to send, `http1` and `http2` turn it into bytes and the answer back,
`probe` is what came when, `study` judges it, `checks` compares, and `findings` is the result. The command has the
sockets.
"""
