"""How tables call what a score is of."""


def subject(task: str, context: str, split: str = "dev") -> str:
    """The task, and what must be said of context and split: ``conll2003, document, test``."""
    document = ", document" if context == "document" else ""
    return f"{task}{document}{'' if split == 'dev' else f', {split}'}"
