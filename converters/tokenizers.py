"""The tokenizer of a source checkpoint as what goes into an .edgeq file: (spec, blob).

`spec` is header["tokenizer"] (the fields of edgeq.tokenizer.Spec as JSON), `blob` the bytes of its tensor: a
sentencepiece model or a compact tokenizer.json. Everything that other files of a checkpoint say about special
tokens is settled here; the runtime reads nothing else. All input is untrusted.
"""

from __future__ import annotations

import codecs
import dataclasses
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from edgeq.converters import jsonfile
from edgeq.converters.jsonfile import Folder
from edgeq.converters.tokenizer_config import Words, check_splits, refuse_case, steps, with_case, with_prefix
from edgeq.errors import FormatError, UnsupportedError
from edgeq.tokenizer import BLOB_BYTES_MAX, TOKENS_MAX, Spec, load, modelproto
from edgeq.tokenizer.document import Document
from edgeq.tokenizer.splitting import rewritten
from edgeq.tokenizer.tokenizer_json import checked, library_errors, library_of

ADDED_MAX = 1 << 16  # added tokens

# Names that end an assistant's turn: a checkpoint's end-of-text token alone is often not what ends an answer.
TURN_ENDS = frozenset(
    ["<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<|end_of_text|>", "<|endoftext|>"]
    + ["<end_of_turn>", "<turn|>"]
)
ROLES = ("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token")
# Spelled like markers, but plain words of a text.
HTML = frozenset(
    ["a", "b", "blockquote", "body", "br", "caption", "code", "div", "em", "h1", "h2", "h3", "h4", "h5", "h6"]
    + ["head", "hr", "html", "i", "img", "li", "ol", "p", "pre", "q", "small", "span", "strong", "sub", "sup"]
    + ["table", "tbody", "td", "tfoot", "th", "thead", "title", "tr", "u", "ul"]
)


def is_marker(text: str) -> bool:
    """Is a token spelled like a part of a dialogue's structure: <think>, </tool_call>, <|x|>, [INST]?"""
    match = re.fullmatch(r"<[|\uff5c]?/?([^<>\s]+?)[|\uff5c]?>|\[/?[A-Z_0-9a-z]+\]", text)
    return match is not None and (match[1] or "").lower() not in HTML


def from_directory(path: Path | Folder, *, pooled: bool = False) -> tuple[dict[str, Any], bytes] | None:
    """The tokenizer of a Hugging Face directory: tokenizer.json, else tokenizer.model; None without either.
    pooled: the model gives vectors, and so reads what a text has behind it.

    Raises FormatError for a broken file, UnsupportedError for a tokenizer that cannot be kept exactly.
    """
    folder = Folder.of(path)
    settings = Settings(folder, pooled)
    text = jsonfile.content(folder, "tokenizer.json", BLOB_BYTES_MAX)
    if text is not None:
        return finish(*_from_json(checked(text.removeprefix(codecs.BOM_UTF8)), settings))
    model = jsonfile.content(folder, "tokenizer.model", BLOB_BYTES_MAX)
    if model is None:
        return None
    refuse_case(settings.tokenizer)
    with jsonfile.explained(model, "tokenizer.model"):
        return finish(*_from_model(model, settings))


def from_gguf(metadata: Mapping[str, Any], *, pooled: bool = False) -> tuple[dict[str, Any], bytes] | None:
    """The tokenizer of a GGUF file's metadata (arrays as lists); None when it holds none. As above."""
    from edgeq.converters import vocabulary

    return vocabulary.from_gguf(metadata, pooled=pooled)


def finish(spec: Spec, blob: bytes) -> tuple[dict[str, Any], bytes]:
    """What goes into the file, after loading it once as a reader will."""
    values = dataclasses.asdict(spec)
    header = {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
    header["tensor"] = "tokenizer"
    for name in ("behind", "word_pieces"):  # words that other files never had
        if not header[name]:
            del header[name]
    load(header, blob)
    return header, blob


@dataclasses.dataclass
class Added:
    """A token outside the model's own vocabulary, or one with a special meaning."""

    text: str
    special: bool
    lstrip: bool = False
    rstrip: bool = False

    @classmethod
    def read(cls, text: str, item: dict[str, Any]) -> Added:
        return cls(text, *(item.get(flag) is True for flag in ("special", "lstrip", "rstrip")))


class Settings:
    """What the JSON files beside a tokenizer say: special tokens, ids that end a text, added tokens."""

    def __init__(self, folder: Folder, pooled: bool = False) -> None:
        def optional(name: str) -> dict[str, Any]:
            return jsonfile.load(folder, name) or {}

        self.tokenizer = optional("tokenizer_config.json")
        self.pooled = pooled
        self.words = Words.read(self.tokenizer, pooled)
        special_map = optional("special_tokens_map.json")
        config, generation = optional("config.json"), optional("generation_config.json")
        self.names = {
            role: name
            for role in ROLES
            if (name := token_text(self.tokenizer.get(role, special_map.get(role))))
        }
        self.extra_names = [
            name
            for more in ("additional_special_tokens", "extra_special_tokens")
            for item in _items(self.tokenizer.get(more) or special_map.get(more))
            if (name := token_text(item))
        ]
        self.eos_ids = [*id_list(generation.get("eos_token_id")), *id_list(config.get("eos_token_id"))]
        self.bos_ids = [*id_list(config.get("bos_token_id")), *id_list(generation.get("bos_token_id"))]
        size = config.get("vocab_size")
        self.model_vocab = size if type(size) is int and 0 < size <= TOKENS_MAX else TOKENS_MAX
        self.added = self._added(folder)

    def _added(self, folder: Folder) -> dict[int, Added]:
        """id -> added token that the model has a row for, of tokenizer_config.json and added_tokens.json."""
        found: dict[int, Added] = {}
        names = {*self.names.values(), *self.extra_names}
        for text, id in (jsonfile.load(folder, "added_tokens.json") or {}).items():
            if type(id) is int and 0 <= id < self.model_vocab and text:
                found[id] = Added(text, text in names)
        decoder = self.tokenizer.get("added_tokens_decoder")
        for key, item in decoder.items() if isinstance(decoder, dict) else ():
            word = token_text(item) if isinstance(item, dict) else None
            if word and re.fullmatch(r"[0-9]{1,7}", key) and int(key) < self.model_vocab:
                found[int(key)] = Added.read(word, item)
        if len(found) > ADDED_MAX:
            raise FormatError(f"the tokenizer has {len(found)} added tokens where {ADDED_MAX} are allowed")
        return found

    def spec(self, words: dict[str, int], vocab_size: int, special: Iterable[int], **more: Any) -> Spec:
        """The spec of a vocabulary: `words` gives a token's id by its spelling, `special` control tokens."""
        eos = [words[name] for name in (self.names.get("eos_token"),) if name in words]
        eos += [id for id in self.eos_ids if id < vocab_size]
        control = set(special)
        for name in (*self.names.values(), *self.extra_names):
            if name in words and len(name) > 1 and not name.isspace():
                control.add(words[name])
        eos += sorted(words[name] for name in TURN_ENDS if words.get(name) in control)
        bos = words.get(self.names.get("bos_token", ""))
        if bos is None and "bos_token" not in self.tokenizer:
            bos = next((id for id in self.bos_ids if id < vocab_size), None)
        bos = more.pop("bos", bos)
        if self.words.ends and not more.get("behind"):
            more["behind"] = tuple(eos[:1])
        return Spec(
            vocab_size=vocab_size,
            bos=bos,
            eos=tuple(dict.fromkeys(eos)),
            control=tuple(sorted(control)),
            **more,
        )


def token_text(value: object) -> str | None:
    """The spelling of a token given as a string or as an object with "content"."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) and value else None


def _items(value: object) -> Iterable[object]:
    """The values of a list, or of an object that gives each a name of its own."""
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def id_list(value: object) -> list[int]:
    """Token ids given as one id, a list of them, or nothing."""
    return [id for id in (value if isinstance(value, list) else [value]) if type(id) is int and id >= 0]


# tokenizer.model ------------------------------------------------------------------------------------------


def _from_model(blob: bytes, settings: Settings) -> tuple[Spec, bytes]:
    """A sentencepiece model; added tokens outside it become pieces of it."""
    pieces = modelproto.read_pieces(blob)
    for id, added in sorted(settings.added.items()):
        kind = modelproto.CONTROL if added.special or is_marker(added.text) else modelproto.USER_DEFINED
        if id < len(pieces):
            if pieces[id].text != added.text:
                raise UnsupportedError(
                    f"the added token {id} is {added.text[:64]!r} and piece {id} of tokenizer.model is "
                    f"{pieces[id].text[:64]!r}; a checkpoint with a tokenizer.json is needed"
                )
            if pieces[id].type == modelproto.NORMAL or pieces[id].type == modelproto.USER_DEFINED:
                pieces[id] = pieces[id]._replace(type=kind)
            continue
        if id - len(pieces) > ADDED_MAX:
            raise FormatError(f"the added token {id} is far behind the {len(pieces)} of tokenizer.model")
        for hole in range(len(pieces), id):
            pieces.append(modelproto.Piece(f"[UNUSED_{hole}]", 0.0, modelproto.UNUSED))
        pieces.append(modelproto.Piece(added.text, 0.0, kind))
    declared = {*settings.names.values(), *settings.extra_names}
    special = {id for id, added in settings.added.items() if added.special}
    markers = set()
    for id, piece in enumerate(pieces):
        if piece.type == modelproto.USER_DEFINED and (piece.text in declared or is_marker(piece.text)):
            pieces[id] = piece = piece._replace(type=modelproto.CONTROL)
            markers.add(id)
        elif piece.type == modelproto.CONTROL:
            special.add(id) if id not in settings.added or settings.added[id].special else markers.add(id)
    words = {piece.text: id for id, piece in reversed(list(enumerate(pieces)))}
    bos = {} if "bos_token" in settings.tokenizer else {"bos": words.get("<s>")}
    spec = settings.spec(words, len(pieces), special, kind="sentencepiece", **bos)
    prefix = settings.words.prefix
    blob = modelproto.replace_pieces(blob, pieces)
    return complete_pieces(
        spec,
        blob if prefix is None else blob + modelproto.PREFIX[prefix],
        pieces,
        markers=markers,
        add_bos=settings.words.add_bos is not False,
        prefix_each=settings.words.legacy is not False,
        strip=settings.added,
    )


def complete_pieces(
    spec: Spec,
    blob: bytes,
    pieces: list[modelproto.Piece],
    *,
    markers: set[int],
    add_bos: bool,
    prefix_each: bool,
    strip: dict[int, Added],
) -> tuple[Spec, bytes]:
    """Fills in the rest of the spec of a sentencepiece model."""
    plain = (modelproto.NORMAL, modelproto.BYTE, modelproto.UNKNOWN)
    control = {id for id in spec.control if pieces[id].type not in plain}
    marker_ids = markers - control
    reserved = control | marker_ids
    field = modelproto.read_flag(blob, 3, 3, default=True)  # normalizer_spec.add_dummy_prefix
    return dataclasses.replace(
        spec,
        control=tuple(sorted(control)),
        markers=tuple(sorted(marker_ids)),
        unknown=next((id for id, piece in enumerate(pieces) if piece.type == modelproto.UNKNOWN), None),
        add_bos=add_bos and spec.bos is not None,
        leading_space=field,
        prefix_each=prefix_each,
        lstrip=tuple(sorted(id for id, added in strip.items() if added.lstrip and id in reserved)),
        rstrip=tuple(sorted(id for id, added in strip.items() if added.rstrip and id in reserved)),
    ), blob


# tokenizer.json -------------------------------------------------------------------------------------------


def _from_json(document: Document, settings: Settings) -> tuple[Spec, bytes]:
    """A tokenizer.json, made compact, with what the runtime does itself taken out."""
    data = document.settings
    _check_template(data.get("post_processor"))
    check_splits(data, settings.words)
    data = with_case(with_prefix(data, settings.words), settings.tokenizer)
    before, behind = _around(_library(document.with_settings(data)))
    if settings.words.ends is False:
        behind = []
    if behind and not settings.pooled:
        raise UnsupportedError(
            f"the post_processor of tokenizer.json puts {len(behind)} tokens behind each text, which is not "
            "supported; add_eos_token false in tokenizer_config.json leaves them out"
        )
    added = {}
    for item in data.get("added_tokens") or []:
        if not isinstance(item, dict) or type(item.get("id")) is not int or not token_text(item):
            raise FormatError("an added token of tokenizer.json has no id or no content")
        if item["id"] < settings.model_vocab:
            added[item["id"]] = Added.read(str(token_text(item)), item)
    names = {*settings.names.values(), *settings.extra_names}
    special = {id for id, token in added.items() if token.special or token.text in names}
    markers = {id for id, token in added.items() if id not in special and is_marker(token.text)}
    data = {**data, "truncation": None, "padding": None, "post_processor": None}
    data["added_tokens"] = [
        {**item, "special": item["id"] in special or item["id"] in markers}
        for item in data.get("added_tokens") or []
        if item["id"] in added
    ]
    document = document.with_settings(data).respelled()
    words = _words(document)
    vocab_size = max(words.values(), default=-1) + 1
    more: dict[str, Any] = text_form(data)
    model = data.get("model")
    more["unknown"] = words.get(token_text(model.get("unk_token") if isinstance(model, dict) else None) or "")
    if len(before) == 1 and words.get(settings.names.get("bos_token", "")) is None:
        more["bos"] = before[0]
    more["behind"] = tuple(behind)
    spec = settings.spec(words, vocab_size, special, kind="tokenizer.json", **more)
    control = {id for id in spec.control if id in added or id in special}
    add_bos = settings.words.add_bos
    if add_bos is None:
        add_bos = before == [spec.bos]
        if before and not add_bos:
            raise UnsupportedError(
                f"the post_processor of tokenizer.json puts the tokens {before[:8]} before each text, and "
                "only the bos_token is supported; add_bos_token in tokenizer_config.json says whether it is "
                "put there"
            )
    return dataclasses.replace(
        spec,
        control=tuple(sorted(control)),
        markers=tuple(sorted(markers - control)),
        add_bos=add_bos and spec.bos is not None,
        lstrip=tuple(sorted(id for id in control | markers if added[id].lstrip)),
        rstrip=tuple(sorted(id for id in control | markers if added[id].rstrip)),
    ), document.to_bytes()


def _words(document: Document) -> dict[str, int]:
    """The id of each word, added tokens among them."""
    library = _library(document)
    if document.words() > library.get_vocab_size(with_added_tokens=False):
        raise FormatError("the vocab of tokenizer.json has a word twice")
    words: dict[str, int] = library.get_vocab(with_added_tokens=True)
    return words


def _library(document: Document) -> Any:
    """The library's object for a checked document, less the splits that it is not given."""
    return library_of(rewritten(document)[0])


def _check_template(part: object) -> None:
    """FormatError for a template that names a token it does not describe: the library would panic at it.

    It takes a step for a template by its fields, whatever its type says.
    """
    for step in steps(part, "processors"):
        known = step.get("special_tokens")
        for form in ("single", "pair"):
            pieces = step.get(form)
            for piece in pieces if isinstance(pieces, list) else ():
                token = piece.get("SpecialToken") if isinstance(piece, dict) else None
                name = token.get("id") if isinstance(token, dict) else None
                if isinstance(name, str) and not (isinstance(known, dict) and name in known):
                    raise FormatError(
                        f"the post_processor of tokenizer.json names the token {name!r:.80}, which is not "
                        "in its special_tokens"
                    )


def _around(library: Any) -> tuple[list[int], list[int]]:
    """The ids that the file's own post-processor puts before a text and behind it."""
    with library_errors("tokenize a text"):
        whole, plain = library.encode("a").ids, library.encode("a", add_special_tokens=False).ids
    for count in range(len(whole) - len(plain) + 1):
        if whole[count : count + len(plain)] == plain:
            return whole[:count], whole[count + len(plain) :]
    raise UnsupportedError(
        "the post_processor of tokenizer.json changes the tokens of a text, not only their ends"
    )


def text_form(data: dict[str, Any]) -> dict[str, Any]:
    """How the tokens of a tokenizer.json spell text: the spec's byte_level, word_pieces, leading_space and
    prefix_each.

    Raises UnsupportedError for a decoder whose text could not be streamed token by token.
    """
    decoders = list(steps(data.get("decoder"), "decoders"))
    before = [*steps(data.get("normalizer"), "normalizers")]
    before += steps(data.get("pre_tokenizer"), "pretokenizers")
    kinds = {step.get("type") for step in decoders}
    model = data.get("model")
    if kinds == {"WordPiece"} and isinstance(model, dict) and model.get("type") == "WordPiece":
        return {"word_pieces": True, "leading_space": True, "prefix_each": False}
    unknown = kinds - {"ByteLevel", "Metaspace", "Replace", "ByteFallback", "Fuse", "Strip"}
    if unknown or not kinds:
        raise UnsupportedError(
            f"the decoder {', '.join(sorted(map(str, unknown))) or 'null'} of tokenizer.json is not "
            "supported, only ByteLevel, Metaspace, WordPiece and Replace with ByteFallback"
        )
    return {
        "byte_level": "ByteLevel" in kinds,
        "leading_space": any(map(_takes_space, decoders)),
        "prefix_each": not any(step.get("prepend_scheme") == "first" for step in before),
    }


def _takes_space(step: dict[str, Any]) -> bool:
    """Does this step of a decoder take the space at the beginning of a text away?"""
    if step.get("type") == "Metaspace":
        return step.get("prepend_scheme", "always") != "never" and step.get("add_prefix_space", True) is True
    return step.get("type") == "Strip" and bool(step.get("start"))
