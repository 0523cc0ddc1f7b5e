"""Zip packages of XML parts (OOXML, EPUB, OpenDocument), read within bounds: nothing is fetched, no entity expanded."""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from errors import DocumentError
from rag.ingest.formats.blocks import File, opened
from rag.ingest.media_types import OLE, ZIP_ERRORS

# The size of one unpacked part. As a tree, a part takes about ten times its size.
MAX_PART_BYTES = 64 * 1024 * 1024
MAX_PARTS = 20_000


class Package:
    """An open zip package."""

    def __init__(self, file: File, kind: str) -> None:
        """`kind` names the format in errors, such as "DOCX file"."""
        self.kind = kind
        try:
            self._zip = zipfile.ZipFile(opened(file))
        except ZIP_ERRORS:
            with file.open("rb") as raw:
                if raw.read(len(OLE)) == OLE:
                    raise self._encrypted() from None
            raise self.broken("it is no zip archive") from None
        infos = self._zip.infolist()
        if len(infos) > MAX_PARTS:
            raise DocumentError("too_large", f"the {kind} has {len(infos)} parts; at most {MAX_PARTS} are taken")
        self._infos = {info.filename.lstrip("/"): info for info in infos}
        self._lowered = {name.lower(): info for name, info in self._infos.items()}

    @property
    def names(self) -> list[str]:
        """The names of the parts, in the order of the archive."""
        return list(self._infos)

    def broken(self, why: str) -> DocumentError:
        """Return the error of a file that cannot be read."""
        return DocumentError("broken", f"the {self.kind} is broken: {why}")

    def _encrypted(self) -> DocumentError:
        return DocumentError("encrypted", f"the {self.kind} is encrypted and needs a password")

    def data(self, name: str) -> bytes | None:
        """Return the bytes of a part; None if the package has no such part. Raises DocumentError."""
        info = self._infos.get(name) or self._lowered.get(name.lower())  # case does not matter in OOXML
        if info is None:
            return None
        if info.flag_bits & 1:
            raise self._encrypted()
        try:
            with self._zip.open(info) as part:
                data = part.read(MAX_PART_BYTES + 1)
        except ZIP_ERRORS:
            raise self.broken(f"its part {name[:80]} cannot be unpacked") from None
        if len(data) > MAX_PART_BYTES:
            limit = MAX_PART_BYTES // 1024 // 1024
            raise DocumentError("too_large", f"a part of the {self.kind} unpacks to more than {limit} MiB")
        return data

    def xml(self, name: str) -> Any | None:
        """Return the root element of a part; None if the package has no such part. Raises DocumentError."""
        data = self.data(name)
        if data is None:
            return None
        root = parse_xml(data)
        if root is None:
            raise self.broken(f"its part {name[:80]} is not well-formed XML")
        return root

    def relations(self, name: str) -> dict[str, tuple[str, str]]:
        """Return the relations of an OOXML part inside the package: by id, the last word of the type, and the part."""
        folder, _, file = name.rpartition("/")
        root = self.xml(posixpath.join(folder, "_rels", f"{file}.rels"))
        found = {}
        for relation in root if root is not None else ():
            if not isinstance(relation.tag, str) or relation.get("TargetMode") == "External":
                continue
            target = unquote(relation.get("Target", ""))
            target = (
                target.lstrip("/") if target.startswith("/") else posixpath.normpath(posixpath.join(folder, target))
            )
            found[relation.get("Id", "")] = (relation.get("Type", "").rpartition("/")[2], target)
        return found

    def related(self, name: str, kind: str) -> Iterator[str]:
        """Yield the parts that a part is related to by this kind of relation."""
        yield from (target for type_, target in self.relations(name).values() if type_ == kind)

    def main_part(self) -> str:
        """Return the name of the main part of an OOXML package. Raises DocumentError."""
        name = next(self.related("", "officeDocument"), None)
        if name is None or name.lower() not in self._lowered:
            raise self.broken("its main part is missing")
        return name


def parse_xml(data: bytes) -> Any | None:
    """Return the root element of an XML document; None for one that is not well-formed.

    No entity is expanded and nothing is loaded; libxml2 bounds the depth and the size of the text.
    """
    from lxml import etree

    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True, remove_pis=True
    )
    try:
        return etree.fromstring(data, parser)
    except (etree.LxmlError, ValueError):
        return None


def local(element: Any) -> str:
    """Return the name of an element without its namespace; "" for an entity that was left as it is."""
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def attribute(element: Any, name: str) -> str | None:
    """Return an attribute by its name without a namespace."""
    value = element.get(name)
    if value is not None:
        return str(value)
    end = "}" + name
    return next((str(value) for key, value in element.items() if key.endswith(end)), None)


def child(element: Any, *names: str) -> Any | None:
    """Return the descendant that is reached by these names of children; None when one of them is missing."""
    for name in names:
        element = next((one for one in element if local(one) == name), None)
        if element is None:
            return None
    return element


def value_of(element: Any | None, *names: str) -> str | None:
    """Return the attribute `val` of the descendant reached by `names`."""
    found = None if element is None else child(element, *names)
    return None if found is None else attribute(found, "val")


def is_on(element: Any | None, name: str) -> bool:
    """Return True if an OOXML switch such as `vanish` is among the children and not turned off."""
    switch = None if element is None else child(element, name)
    return switch is not None and attribute(switch, "val") not in {"0", "false", "off"}
