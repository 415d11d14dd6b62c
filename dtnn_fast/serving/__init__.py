# SPDX-License-Identifier: MIT
"""Web page and REST service of a model, started by ``dtnn-fast serve``; needs the extra ``serve``.

- ``server.py``: `serve` runs the service until it is stopped; `ServeSettings`
- ``application.py``: the routes; ``request_forms.py``: crystals of a request; ``schemas.py``: requests and answers
- ``guards.py``: what is checked of every request: host, origin, size; headers of every answer
- ``service_limits.py``: `Limits`, sizes and times
- ``reading_pool.py``, ``reading_process.py``, ``crystal_messages.py``: processes that read files of strangers
- ``prediction_queue.py``, ``turns.py``: crystals that wait for the model, predicted in batches
- ``labelled_neighbors.py``: labelled crystals that are nearest to a crystal in the encoder's latent space
- ``serve_page.py``, ``api_page.py``, ``page/``: the web page, and the page of the REST interface
"""
