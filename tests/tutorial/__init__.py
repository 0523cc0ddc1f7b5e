"""The service from the outside, one concept a file, to be read from top to bottom.

Start with test_ask.py. Then, in any order: test_upload.py, test_stream.py, test_cancel.py, test_conversation.py,
test_webhook.py and test_second_worker.py. Each test is a client: it calls a running service over HTTP, as your program
would, and asserts what the service answers. conftest.py shows what runs behind it.
"""
