"""Pre-training from raw text: vocabulary, corpus, instances, masks, and the loop.

``text`` -> ``vocabulary`` -> ``corpus`` -> ``pairs`` and ``masking``, put together by ``instances`` -> ``train``.
Order, pairs and masks are pure functions of (seed, epoch, index), so a run can be stopped anywhere, and any number of
processes see the same batches. ``google`` has the instances of Google's script, draw for draw.
"""
