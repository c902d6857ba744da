"""What every page of aecli is made safe by: data that ends no element, hashes for its policy."""

import base64
import hashlib
import json
from typing import Any


def in_script(data: Any) -> str:
    """Return data as JSON that ends no `<script>`, whatever texts are in it.

    Raises `ValueError` for a number that is not finite: no browser reads it.
    """
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def csp_hash(text: str) -> str:
    """Return the source of a content security policy that allows this script or style alone.

    W3C, Content Security Policy Level 3, §2.3.1: `'sha256-…'`, quotes and all.
    """
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
