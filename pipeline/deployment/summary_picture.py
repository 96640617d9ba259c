"""One page for the radiologist's viewer: what the network saw, what it says, and what is known of it on such scanners.

Nothing of a header is drawn: the page is safe to file anywhere its study is.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pipeline.deployment.outcome import Outcome, Reading, Verdict
from pipeline.deployment.wording import RESEARCH_ONLY, audit_sentences, plain, reading_sentence, verdict_sentence

WIDTH, HEIGHT, MARGIN = 1200, 900, 40
LABEL_WIDTH, GAP = 64, 4  # of the two rows of slices
SLICES_TOP, SLICES_HEIGHT = 110, 290
PANEL_TOP, FOOTER_TOP = 440, 790
BARS_RIGHT, WORDS_LEFT = 570, 630
SHARE_WIDTH = 64
MOST_BARS = 8
SMALLEST_TYPE, LEADING = 13, 9

BACKGROUND, LINE, TRACK = (14, 16, 19), (52, 58, 66), (34, 38, 44)
TEXT, QUIET = (226, 230, 235), (150, 158, 168)
BAR, CHOSEN, NOTICE = (84, 98, 116), (116, 168, 214), (232, 186, 96)
VERDICT_COLOURS = {Verdict.AUDITED: TEXT, Verdict.TOO_FEW: NOTICE, Verdict.UNSEEN: NOTICE}


def summary_picture(image: NDArray[np.float32], outcome: Outcome) -> NDArray[np.uint8]:
    """Draw the page of a reading.

    Args:
        image: ``(2, slices, rows, cols)``, end-diastole first, standardised: the network's input.
        outcome: of the study; it must have a reading.

    Returns:
        ``(900, 1200, 3)``, RGB; the same input gives the same pixels.

    Raises:
        ValueError: if there is no reading, or the image is not of that form.
    """
    reading = outcome.reading
    if reading is None:
        raise ValueError("a summary picture must have a reading, got a refusal; write result.json alone")
    if image.ndim != 4 or image.shape[0] != 2:
        raise ValueError(f"the image must be (2, slices, rows, cols), got {image.shape}; give the network's input")
    page = Image.new("RGB", (WIDTH, HEIGHT), BACKGROUND)
    draw = ImageDraw.Draw(page)
    _heading(draw, reading)
    _slices(page, draw, image, reading)
    draw.line([(MARGIN, PANEL_TOP - 24), (WIDTH - MARGIN, PANEL_TOP - 24)], fill=LINE)
    _bars(draw, reading)
    _words(draw, outcome, reading)
    _footer(draw, outcome)
    return np.asarray(page, np.uint8)


def to_png(picture: NDArray[np.uint8]) -> bytes:
    """A picture as PNG: its pixels and nothing else, no time and no program."""
    buffer = BytesIO()
    buffer.name = "summary.png"  # by a name Pillow loads one format; told the format, it would load five
    Image.fromarray(picture).save(buffer, compress_level=1)  # half the time, a fifth more bytes
    return buffer.getvalue()


def _heading(draw: ImageDraw.ImageDraw, reading: Reading) -> None:
    share = reading.probabilities[reading.predicted]
    told = f"Evenbeat. {reading_sentence(reading)}"
    predicted = plain(f"Most probable class: {reading.predicted} ({share:.2f})")
    for top, line, largest, fill in ((28, told, 17, QUIET), (56, predicted, 34, TEXT)):
        size = _fitting(line, WIDTH - 2 * MARGIN, largest)
        draw.text((MARGIN, top), _shortened(line, WIDTH - 2 * MARGIN, size), font=_type(size), fill=fill)


def _slices(page: Image.Image, draw: ImageDraw.ImageDraw, image: NDArray[np.float32], reading: Reading) -> None:
    """Two rows of slices, grey values over both phases together, each pixel enlarged as it is."""
    low, high = float(image.min()), float(image.max())
    grey = np.round(255 * (image - low) / max(high - low, 1e-6)).astype(np.uint8)
    slices, rows, cols = grey.shape[1:]
    room = (WIDTH - 2 * MARGIN - LABEL_WIDTH - GAP * (slices - 1)) // slices
    scale = min(room / cols, (SLICES_HEIGHT - GAP) / 2 / rows)
    scale = int(scale) if scale >= 1 else scale  # every pixel of the input as large as the others
    width, height = max(int(cols * scale), 1), max(int(rows * scale), 1)
    first = SLICES_TOP + (SLICES_HEIGHT - GAP) // 2 - height
    for row, (phase, index) in enumerate((("ED", reading.ed), ("ES", reading.es))):
        top = first + row * (height + GAP)
        draw.text((MARGIN, top + height // 2 - 22), phase, font=_type(24), fill=TEXT)
        draw.text((MARGIN, top + height // 2 + 8), f"{index + 1} of {reading.n_phases}", font=_type(13), fill=QUIET)
        for number in range(slices):
            tile = Image.fromarray(grey[row, number]).resize((width, height), Image.Resampling.NEAREST)
            page.paste(tile, (MARGIN + LABEL_WIDTH + number * (width + GAP), top))


def _bars(draw: ImageDraw.ImageDraw, reading: Reading) -> None:
    draw.text((MARGIN, PANEL_TOP), "Probability of each class", font=_type(20), fill=QUIET)
    shares = _most_bars(reading)
    full = BARS_RIGHT - SHARE_WIDTH - MARGIN
    step = min((FOOTER_TOP - PANEL_TOP - 50) // len(shares), 64)
    thickness = max(min(step - 36, 14), 6)
    for row, (name, share) in enumerate(shares):
        top = PANEL_TOP + 38 + row * step
        words, bar = (TEXT, CHOSEN) if name == reading.predicted else (QUIET, BAR)
        text, size = plain(name), _fitting(plain(name), full, 19)
        draw.text((MARGIN, top), _shortened(text, full, size), font=_type(size), fill=words)
        top += 25
        draw.rectangle([MARGIN, top, MARGIN + full, top + thickness], fill=TRACK)
        if share > 0:
            draw.rectangle([MARGIN, top, MARGIN + round(full * share), top + thickness], fill=bar)
        draw.text((BARS_RIGHT, top + thickness / 2), f"{share:.2f}", font=_type(19), fill=words, anchor="rm")


def _most_bars(reading: Reading) -> list[tuple[str, float]]:
    """Classes and probabilities in the package's order; of many classes the most probable, and the rest in one."""
    shares = list(reading.probabilities.items())
    if len(shares) <= MOST_BARS:
        return shares
    kept = sorted(shares, key=lambda entry: -entry[1])[: MOST_BARS - 1]
    rest = f"{len(shares) - len(kept)} other classes together"
    return [*(entry for entry in shares if entry in kept), (rest, max(1 - sum(share for _, share in kept), 0.0))]


def _words(draw: ImageDraw.ImageDraw, outcome: Outcome, reading: Reading) -> None:
    """The verdict on the scanner, its first figures, warnings, the rest; whole sentences while room lasts."""
    width = WIDTH - MARGIN - WORDS_LEFT
    draw.text((WORDS_LEFT, PANEL_TOP), "How well it is known on such scanners", font=_type(20), fill=QUIET)
    verdict = verdict_sentence(outcome.envelope)
    audit = [(sentence, 17, TEXT) for sentence in audit_sentences(outcome.envelope)]
    warnings = [(f"Warning: {warning}", 17, NOTICE) for warning in reading.warnings]
    colour = VERDICT_COLOURS[outcome.envelope.verdict] if outcome.envelope else NOTICE
    told = [(verdict, _fitting(verdict, width, 21), colour), *audit[:2], *warnings, *audit[2:]]
    top, bottom = PANEL_TOP + 38, FOOTER_TOP - 12
    for number, (text, size, fill) in enumerate(told):
        lines = _wrapped(plain(text), width, size)
        more = 0 if number == len(told) - 1 else 17 + LEADING
        if top + len(lines) * (size + LEADING) + more > bottom:
            draw.text((WORDS_LEFT, top), "More in result.json.", font=_type(17), fill=QUIET)
            return
        for line in lines:
            draw.text((WORDS_LEFT, top), line, font=_type(size), fill=fill)
            top += size + LEADING


def _footer(draw: ImageDraw.ImageDraw, outcome: Outcome) -> None:
    package = outcome.package
    draw.line([(MARGIN, FOOTER_TOP), (WIDTH - MARGIN, FOOTER_TOP)], fill=LINE)
    draw.text((MARGIN, FOOTER_TOP + 14), RESEARCH_ONLY, font=_type(36), fill=NOTICE)
    line = f"{package.name} {package.version}, package {package.digest[:12]}"
    size = _fitting(line, WIDTH - 2 * MARGIN, 17)
    draw.text((MARGIN, FOOTER_TOP + 66), _shortened(line, WIDTH - 2 * MARGIN, size), font=_type(size), fill=QUIET)


def _wrapped(text: str, width: float, size: int) -> Sequence[str]:
    """Lines of whole words; a word that is wider than a line is cut."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if _type(size).getlength(longer) <= width or not lines[-1]:
            lines[-1] = _shortened(longer, width, size)
        else:
            lines.append(_shortened(word, width, size))
    return lines


def _fitting(text: str, width: float, size: int) -> int:
    """Largest size of type, up to ``size``, in which a text fits a line; not below what can be read."""
    while size > SMALLEST_TYPE and _type(size).getlength(text) > width:
        size -= 1
    return size


def _shortened(text: str, width: float, size: int) -> str:
    """A text without its middle, if it must be: beginning and end tell long names apart."""
    kept = len(text)
    short = text
    while kept > 2 and _type(size).getlength(short) > width:
        kept -= 1
        short = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
    return short


@cache
def _type(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("Pillow must be built with FreeType, got one without; install the wheel of its makers")
    return font
