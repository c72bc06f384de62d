"""Reads a folder's tokenizer as transformers' ``AutoTokenizer`` does, and writes one that all libraries read alike.

transformers builds a ``BertTokenizer`` from the vocabulary and the settings: from ``tokenizer.json`` it takes only the
vocabulary, the added tokens and the side on which texts are truncated. It uses the whole file if ``tokenizer_class`` is
``PreTrainedTokenizerFast``.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, decoders, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as FastTokenizer
from tokenizers.models import WordPiece

from reference.files.vocabulary import NO_PIECE, SHARE, WHOLE_FILE, by_id, case_of, lowers, read_json, tokenizer_class

BERT = ("", "BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "MobileBertTokenizer")  # all the same
DEFAULTS = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
ROLES = ("bos_token", "eos_token", *DEFAULTS)  # in the order in which transformers adds missing ones
SETTINGS = {  # names in tokenizer.json -> names in tokenizer_config.json
    "lowercase": "do_lower_case",
    "strip_accents": "strip_accents",
    "handle_chinese_chars": "tokenize_chinese_chars",
}
KEPT = ("padding_side", "truncation_side", "split_special_tokens", "clean_up_tokenization_spaces")
INPUTS = ["input_ids", "token_type_ids", "attention_mask"]  # the inputs of a BERT
UNLIMITED = 10**6  # a larger model_max_length is no limit: transformers writes 10**30 for none
FOREIGN = {"\u2581": "SentencePiece", "\u0120": "byte-level BPE", "@@": "BPE", "</w>": "BPE"}
ADVICE = "load it with the library that it is made for, or give a folder whose tokenizer is BERT's WordPiece"


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder's tokenizer and its settings."""

    tokenizer: FastTokenizer
    special: dict[str, str]  # special tokens by role, such as cls_token, or a role that only this folder has
    settings: dict[str, Any]  # for tokenizer_config.json
    notes: tuple[str, ...]  # for the user: where files disagree, and why it is cased or uncased
    stated: bool  # False: cased or uncased was inferred from the folder's name or the vocabulary


def read_folder(folder: Path) -> Folder:
    """Build the tokenizer. Raises ValueError, which names the file, unless it is a supported BERT tokenizer."""
    settings, config = read_json(folder / "tokenizer_config.json"), read_json(folder / "config.json")
    _check_settings(folder, settings, config)
    whole = read_json(folder / "tokenizer.json")
    name, place = tokenizer_class(folder)
    as_it_is = name in WHOLE_FILE
    if as_it_is and not whole:
        raise ValueError(f"{folder / place}: tokenizer_class is {name}, which needs a tokenizer.json; {ADVICE}")
    _check_model(folder, whole)
    listed, settings = _with_added_tokens(folder, settings, whole)
    if as_it_is:
        tokenizer = FastTokenizer.from_file(str(folder / "tokenizer.json"))
        special = {role: settings[role] for role in ROLES if settings.get(role)}
        notes: list[str] = []
        stated = True
    else:
        special = {role: settings.get(role) or DEFAULTS[role] for role in ROLES if role in settings or role in DEFAULTS}
        tokenizer, notes, stated = _bert(folder, settings, special, whole)
    special |= _own_special(settings)
    by_content = {str(token): token for token in listed}
    special = {role: by_content.get(str(token), token) for role, token in special.items()}
    _add(tokenizer, listed, special, settings.get("extra_special_tokens") or [])
    if not as_it_is:
        tokenizer.post_processor = _template(tokenizer, special)
        notes += _disagreements(folder, settings, whole, tokenizer)
    tokenizer.encode_special_tokens = bool(settings.get("split_special_tokens", False))
    names = {role: str(token) for role, token in special.items()}
    said = _settings(settings, tokenizer, whole, as_it_is) | names
    said["model_max_length"] = said["model_max_length"] or config.get("max_position_embeddings")
    return Folder(tokenizer, names, said, tuple(notes), stated)


# -- unsupported tokenizers --


def _check_settings(folder: Path, settings: dict[str, Any], config: dict[str, Any]) -> None:
    file = folder / "tokenizer_config.json"
    name, place = tokenizer_class(folder)
    if name.removesuffix("Fast") not in BERT and name not in WHOLE_FILE:
        raise ValueError(f"{folder / place}: tokenizer_class is {name}, not BertTokenizer; {ADVICE}")
    for where, values in ((file, settings), (folder / "config.json", config)):
        own = values.get("auto_map")
        if isinstance(own, list | tuple) or (isinstance(own, dict) and "AutoTokenizer" in own):
            raise ValueError(f"{where}: auto_map names a tokenizer in code of its own, which is never run; {ADVICE}")
    unusual = [key for key in ("word_tokenizer_type", "subword_tokenizer_type") if settings.get(key)]
    unusual += [key for key in ("fast_tokenizer_files", "init_inputs") if settings.get(key)]
    if settings.get("do_basic_tokenize", True) is False:
        unusual.append("do_basic_tokenize: false")
    if unusual:
        raise ValueError(f"{file}: {', '.join(unusual)} asks for more than BERT's WordPiece; {ADVICE}")
    never = set(settings.get("never_split") or ()) - set(DEFAULTS.values())
    if never:
        raise ValueError(
            f"{file}: never_split names {', '.join(sorted(map(str, never)))}, and transformers splits these today; "
            "add them as tokens (tokenizer.add_tokens), or take never_split out"
        )


def _check_model(folder: Path, whole: dict[str, Any]) -> None:
    """Raise ValueError unless the model in ``tokenizer.json`` is WordPiece; older files do not name its type."""
    if not whole:
        return
    model = whole.get("model")
    if not isinstance(model, dict):
        raise ValueError(f"{folder / 'tokenizer.json'}: it has no model")
    guess = "BPE" if "merges" in model else "Unigram" if isinstance(model.get("vocab"), list) else "WordPiece"
    if (kind := model.get("type", guess)) != "WordPiece":
        raise ValueError(f"{folder / 'tokenizer.json'}: its model is {kind}, not WordPiece; {ADVICE}")
    if not isinstance(model.get("vocab"), dict):
        raise ValueError(f"{folder / 'tokenizer.json'}: its model has no vocabulary of word pieces")


def _check_pieces(file: Path, pieces: Iterable[str]) -> None:
    """Raise ValueError for pieces with another tokenizer's marks: some also write a ``vocab.txt``."""
    pieces = list(pieces)
    if any(piece.startswith("##") for piece in pieces):
        return
    for mark, whose in FOREIGN.items():
        if sum(mark in (piece[:1], piece[-2:], piece[-4:]) for piece in pieces) > len(pieces) * SHARE:
            raise ValueError(f"{file}: its pieces have {mark} where WordPiece has ##, as {whose} has it; {ADVICE}")


# -- added tokens --


def _with_added_tokens(
    folder: Path, settings: dict[str, Any], whole: dict[str, Any]
) -> tuple[list[AddedToken], dict[str, Any]]:
    """The tokens that files list as added, in the order of their ids; and the settings, with those of older files."""
    settings = dict(settings)
    if "additional_special_tokens" in settings and not settings.get("extra_special_tokens"):
        settings["extra_special_tokens"] = settings.pop("additional_special_tokens")
    if "added_tokens_decoder" in settings:
        listed = {int(number): AddedToken(**token) for number, token in settings["added_tokens_decoder"].items()}
    else:
        settings |= _of_special_tokens_map(folder, settings)
        listed = _of_added_tokens_file(folder, settings)
        for token in whole.get("added_tokens", ()):
            listed[token["id"]] = AddedToken(**{key: value for key, value in token.items() if key != "id"})
    if "additional_special_tokens" in settings and "extra_special_tokens" not in settings:  # special_tokens_map.json's
        settings["extra_special_tokens"] = settings.pop("additional_special_tokens")
    settings = {key: _token(value) for key, value in settings.items()}
    return [listed[number] for number in sorted(listed)], settings


def _of_special_tokens_map(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in read_json(folder / "special_tokens_map.json").items():
        if key == "extra_special_tokens" and isinstance(value, list):
            added = [AddedToken(**token, special=True) if isinstance(token, dict) else token for token in value]
            known = settings.get(key) or []
            found[key] = [*known, *(token for token in added if token not in known)]
        elif key != "extra_special_tokens" and isinstance(value, dict):
            found[key] = AddedToken(**{name: each for name, each in value.items() if name != "special"}, special=True)
        else:
            found[key] = value
    return found


def _of_added_tokens_file(folder: Path, settings: dict[str, Any]) -> dict[int, AddedToken]:
    """The tokens in ``added_tokens.json``. A token is special if another file says so."""
    special = {str(_content(settings[role])) for role in ROLES if settings.get(role)}
    special |= {str(_content(token)) for token in settings.get("extra_special_tokens") or []}
    return {
        number: AddedToken(token, normalized=token not in special, special=token in special)
        for token, number in read_json(folder / "added_tokens.json").items()
    }


def _token(value: Any) -> Any:
    """Convert tokens that are written with their properties, anywhere in the settings, to the library's class."""
    if isinstance(value, dict) and value.get("__type") == "AddedToken":
        return AddedToken(**{key: each for key, each in value.items() if key != "__type"})
    return [_token(each) for each in value] if isinstance(value, list) else value


def _content(token: Any) -> Any:
    return token.get("content") if isinstance(token, dict) else token


def _own_special(settings: dict[str, Any]) -> dict[str, Any]:
    """Special tokens in roles that only this folder has, such as ``entity_token``; or a mapping of roles to tokens."""
    named = {
        key: value
        for key, value in settings.items()
        if key.endswith("_token") and key not in ROLES and isinstance(value, str | AddedToken)
    }
    for key in ("extra_special_tokens", "model_specific_special_tokens"):
        if isinstance(settings.get(key), dict):
            named |= settings[key]
    return named


def _add(tokenizer: FastTokenizer, listed: list[AddedToken], special: dict[str, Any], extra: Any) -> None:
    """Add the tokens that are missing, in transformers' order, which determines the new tokens' ids.

    [PAD] and [MASK] are not added if neither the vocabulary nor a list has them: no text means them, and the model has
    no embedding for them.
    """
    known = {repr(token) for token in tokenizer.get_added_tokens_decoder().values()}
    present = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    new: list[AddedToken] = [token for token in listed if repr(token) not in known]
    names = present | {token.content for token in new}
    for role, token in special.items():
        absent = tokenizer.token_to_id(str(token)) is None
        if str(token) not in names and not (absent and role in ("pad_token", "mask_token")):
            new.append(token if isinstance(token, AddedToken) else AddedToken(token, special=True))
    if not isinstance(extra, dict):
        new += [
            token if isinstance(token, AddedToken) else AddedToken(token, special=True)
            for token in extra
            if str(token) not in names
        ]
    in_roles = {str(token) for token in special.values()}
    for token in new:
        if token.content in in_roles:
            token.special = True
    tokenizer.add_tokens(new)


# -- BERT's --


def _bert(
    folder: Path, settings: dict[str, Any], special: dict[str, Any], whole: dict[str, Any]
) -> tuple[FastTokenizer, list[str], bool]:
    """WordPiece with the folder's vocabulary and settings; notes about its case; and whether the case is stated."""
    unknown = str(special["unk_token"])
    pieces = whole["model"]["vocab"] if whole else _read_lines(folder / "vocab.txt")
    _check_pieces(folder / ("tokenizer.json" if whole else "vocab.txt"), pieces)
    model = WordPiece(pieces, unk_token=unknown)
    case = case_of(folder, pieces)
    tokenizer = FastTokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
        strip_accents=settings.get("strip_accents"),
        lowercase=case.lower,
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    listed = {str(_content(token)) for token in whole.get("added_tokens", ())} | set(pieces)
    listed |= {str(_content(token)) for token in (settings.get("added_tokens_decoder") or {}).values()}
    listed |= set(read_json(folder / "added_tokens.json"))
    for role in ("cls_token", "sep_token", "unk_token"):
        if str(special[role]) not in listed:
            raise ValueError(f"the vocabulary has no {special[role]}: it is not BERT's")
    said = [] if case.stated else [f"{'lower-cased' if case.lower else 'cased'}: {case.because}"]
    return tokenizer, said, case.stated


def _template(tokenizer: FastTokenizer, special: dict[str, Any]) -> processors.TemplateProcessing:
    first, last = str(special["cls_token"]), str(special["sep_token"])
    return processors.TemplateProcessing(
        single=f"{first}:0 $A:0 {last}:0",
        pair=f"{first}:0 $A:0 {last}:0 $B:1 {last}:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (first, last)],
    )


def _disagreements(
    folder: Path, settings: dict[str, Any], whole: dict[str, Any], tokenizer: FastTokenizer
) -> list[str]:
    """What ``tokenizer.json`` and ``vocab.txt`` contain that transformers' BertTokenizer ignores."""
    if not whole:
        return []
    built = json.loads(tokenizer.to_str())
    parts = ("normalizer", "pre_tokenizer", "model")
    notes = [note for part in parts for note in _passed_over(part, whole.get(part) or {}, built[part], settings)]
    if _layout(_without_vocabulary(whole)) != _layout(tokenizer):
        notes.append("the post_processor in tokenizer.json is passed over for that of BERT")
    file = folder / "vocab.txt"
    if file.is_file() and _pieces(_read_lines(file)) != _pieces(whole["model"]["vocab"]):
        notes.append("vocab.txt has other word pieces than tokenizer.json, which counts")
    return [f"{note} (as in transformers)" for note in notes]


def _passed_over(part: str, own: dict[str, Any], built: dict[str, Any], settings: dict[str, Any]) -> Iterator[str]:
    """Where a part of ``tokenizer.json`` differs from the tokenizer that was built."""
    if own.get("type", "WordPiece") != built["type"]:
        yield f"the {part} in tokenizer.json, {own.get('type')}, is passed over for {built['type']}"
        return
    for key in sorted(built.keys() & own.keys() - {"type", "vocab", "unk_token"}):
        if own[key] != built[key]:
            name, value = SETTINGS.get(key, key), json.dumps(built[key])
            other = f"tokenizer_config.json says {name}: {value}" if name in settings else f"the default is {value}"
            yield f"tokenizer.json says {key}: {json.dumps(own[key])}, but {other}, which counts"


def _pieces(vocabulary: dict[str, int]) -> dict[str, int]:
    """Without the names of unused ids."""
    return {piece: number for piece, number in vocabulary.items() if not NO_PIECE.fullmatch(piece)}


def _read_lines(file: Path) -> dict[str, int]:
    """The word pieces of a ``vocab.txt``."""
    pieces: dict[str, int] = WordPiece.read_file(str(file))
    return pieces


def _without_vocabulary(whole: dict[str, Any]) -> FastTokenizer:
    empty = whole | {"model": whole["model"] | {"type": "WordPiece", "vocab": {}}, "added_tokens": []}
    return FastTokenizer.from_str(json.dumps(empty | {"truncation": None, "padding": None}))


def _layout(tokenizer: FastTokenizer) -> list[tuple[list[int], list[int]]]:
    """Ids and segments of an empty text and an empty pair: the special tokens around them."""
    return [(each.ids, each.type_ids) for each in (tokenizer.encode(""), tokenizer.encode("", ""))]


# -- writing --


def _settings(
    settings: dict[str, Any], tokenizer: FastTokenizer, whole: dict[str, Any], as_it_is: bool
) -> dict[str, Any]:
    """The settings for a tokenizer_config.json beside the built tokenizer, without the special tokens' roles."""
    normalizer = json.loads(tokenizer.to_str())["normalizer"] or {}
    longest = settings.get("model_max_length", settings.get("max_len"))
    said = {
        "tokenizer_class": "PreTrainedTokenizerFast" if as_it_is else "BertTokenizer",
        "do_lower_case": lowers(normalizer),
        "strip_accents": normalizer.get("strip_accents"),
        "tokenize_chinese_chars": normalizer.get("handle_chinese_chars", False),
        "model_max_length": longest if isinstance(longest, int) and 0 < longest < UNLIMITED else None,
        "model_input_names": settings.get("model_input_names", INPUTS),
    }
    said |= {key: settings[key] for key in KEPT if settings.get(key) is not None}
    if "truncation_side" not in said and (whole.get("truncation") or {}).get("direction") == "Left":
        said["truncation_side"] = "left"
    if isinstance(extra := settings.get("extra_special_tokens"), list):
        said["additional_special_tokens"] = [str(token) for token in extra]  # older versions read this name
    # With this, transformers ignores files of an older layout that may be in the folder.
    added = json.loads(tokenizer.to_str())["added_tokens"]
    said["added_tokens_decoder"] = {str(token.pop("id")): token for token in added}
    return said


def write_folder(tokenizer: FastTokenizer, settings: dict[str, Any], folder: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json and vocab.txt; delete files of older layouts, which add tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("special_tokens_map.json", "added_tokens.json"):
        (folder / name).unlink(missing_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    text = json.dumps(settings, indent=2, ensure_ascii=False)
    (folder / "tokenizer_config.json").write_text(f"{text}\n", encoding="utf-8")
    pieces = by_id(tokenizer.get_vocab(with_added_tokens=False))
    (folder / "vocab.txt").write_bytes("".join(f"{piece}\n" for piece in pieces).encode())
