"""Number formats of Office: a value as its format shows it."""

from __future__ import annotations

import re

_WORDED = re.compile(r'(?:"[^"]*")+')
_THOUSANDS = re.compile(r"(?<=[0#?])(,*)(?=[^,0#?]*\Z)")


def shown(value: float, form: str) -> str:
    """``value`` in the format code ``form``, such as ``0.0%``; as it is where that is empty or says nothing of numbers."""
    parts = form.split(";")
    place = 1 if value < 0 else 2 if value == 0 else 0
    own = parts[place] if place < len(parts) else ""
    if _WORDED.fullmatch(own):  # "Yes";"No" for 1 and 0
        return _unquoted(own)
    section = re.sub(r"\[(?!\$)[^\]]*\]|_.|\*.", "", parts[0])
    literal = re.sub(r"\[\$([^\]-]*)[^\]]*\]", r'"\1"', section)
    bare = re.sub(r'"[^"]*"|\\.', "", literal)
    if not form or not re.search("[0#?]", bare) or "E" in bare or "/" in bare:
        return str(int(value)) if value == int(value) and abs(value) < 1e15 else f"{value:.15g}"
    if "%" in bare:
        value *= 100
    if re.search(r"[0#?][^0#?.,%]+[0#?]", section) and not re.search(r"[.,]", bare):
        return _patterned(value, section)  # 000-0000
    value /= 1000 ** len(_THOUSANDS.search(bare + " ")[1])  # type: ignore[index]
    bare = _THOUSANDS.sub(" ", bare + " ")
    decimals = len(re.sub(r"[^0#?]", "", bare.partition(".")[2]))
    text = f"{abs(value):{',' if ',' in bare else ''}.{decimals}f}"
    text = text.zfill(bare.partition(".")[0].count("0") + len(text) - len(text.partition(".")[0]))
    masked = re.sub(r'"[^"]*"|\\.', lambda found: " " * len(found[0]), literal)
    digits = [found.start() for found in re.finditer(r"[#0?.,]", masked)]
    before, after = literal[: digits[0]], literal[digits[-1] + 1 :]
    sign = "-" if value < 0 and text.strip("0.,") else ""
    return sign + _unquoted(before) + text + _unquoted(after)


def _patterned(value: float, section: str) -> str:
    """Digits in the places of a pattern, from the last one on."""
    digits, found = list(f"{abs(value):.0f}"), []
    places = re.findall(r'"[^"]*"|\\.|.', section)
    first = next(at for at, place in enumerate(places) if place in "0#?")
    for at in range(len(places) - 1, -1, -1):
        if places[at] not in "0#?":
            found.append(_unquoted(places[at]))
        elif digits or places[at] == "0":
            found.append(digits.pop() if digits else "0")
        if at == first:
            found += reversed(digits)
    return ("-" if value < 0 else "") + "".join(reversed(found)).strip()


def _unquoted(literal: str) -> str:
    return re.sub(r'"([^"]*)"|\\(.)', lambda found: found[1] or found[2] or "", literal).replace("?", "").replace("@", "")
