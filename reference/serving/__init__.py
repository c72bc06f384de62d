"""Sentence vectors over a network: one model, shared by many clients.

- ``batching``: the queue in front of the model.
- ``model``: the encoder as the queue and the wires use it.
- ``http``: the APIs of OpenAI and of Text Embeddings Inference.
- ``search``: collections of texts over HTTP; ``store`` keeps and searches them.
- ``page``: what people see at the service's address.
- ``zmq``: the protocol of bert-as-service 1.10.
- ``service``: all of these in one process.
"""
