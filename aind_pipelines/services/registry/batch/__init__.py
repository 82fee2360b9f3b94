"""Our app beside django-neurobank: what its plain API does one by one, in batches, and whole archives as streams.

``capabilities/``
    What is offered here; a plain registry answers 404.
``batch/register/``, ``batch/locate/``
    Many resources, or many locations, in one transaction with a result per item.
``batch/find/``
    Records by many ids or sha1s.
``archives/NAME/contents/``
    All resources of an archive with their locations, in the order of their ids.
"""
