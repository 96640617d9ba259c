"""The summary page: what is on it, and that nothing runs out of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import ImageDraw, ImageFont

from pipeline.deployment.outcome import AuditedGroup, EnvelopeVerdict, Outcome, PackageIdentity, Verdict
from pipeline.deployment.summary_picture import HEIGHT, LABEL_WIDTH, MARGIN, WIDTH, summary_picture
from tests.deployment.readings import PACKAGE, READ, REFUSED, network_input

LONG = "Hypertrophic cardiomyopathy with obstruction of the left ventricular outflow tract, "
GROUPS = (("vendor", "GE", 31), ("field_strength_t", "1.5 T", 200), ("scanner", "GE SIGNA Artist 1.5 T", 3))


def _with_classes(probabilities: dict[str, float]) -> Outcome:
    assert READ.reading is not None
    return replace(READ, reading=replace(READ.reading, probabilities=probabilities))


def _many_words() -> Outcome:
    """As much of everything as could come."""
    probabilities = {f"{LONG}number {index} {'x' * 60}": 1 / 12 for index in range(12)}
    groups = tuple(
        AuditedGroup(*group, measure, n, 0.7, 0.5, 0.9)
        for *group, n in GROUPS
        for measure in ("accuracy", "balanced accuracy", "area under the curve", "w" * 90)
    )
    assert READ.reading is not None
    warnings = tuple(f"WARNING_{number}: {LONG * 3}" for number in range(4))
    reading = replace(READ.reading, probabilities=probabilities, warnings=warnings, phase_confidence=None)
    package = PackageIdentity("p" * 64, "1.2.3" + "v" * 59, PACKAGE.digest, PACKAGE.recipe_digest)
    return replace(READ, package=package, reading=reading, envelope=EnvelopeVerdict(Verdict.TOO_FEW, groups))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[float, float, float, float]]]:
    """Every text that is drawn, with its box on the page."""
    texts: list[tuple[str, tuple[float, float, float, float]]] = []
    draw = ImageDraw.ImageDraw.text

    def recorded(self: ImageDraw.ImageDraw, xy: tuple[float, float], text: str, **keywords: object) -> None:
        font = keywords["font"]
        assert isinstance(font, ImageFont.FreeTypeFont)
        box = self.textbbox(xy, text, font=font, anchor=keywords.get("anchor"))  # type: ignore[arg-type]
        texts.append((text, box))
        draw(self, xy, text, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", recorded)
    return texts


OUTCOMES = {
    "clear": READ,
    "one class of two": _with_classes({"NOR": 1.0, "ill": 0.0}),
    "many words": _many_words(),
    "no scanner": replace(READ, scanner=None, envelope=None),
    "no audit": replace(READ, envelope=EnvelopeVerdict(Verdict.UNSEEN, (), audited=False)),
    "an audit by site": replace(READ, envelope=EnvelopeVerdict(Verdict.UNSEEN, ())),
    "foreign letters": _with_classes({"心筋症": 0.5, "肥大型": 0.3, "Épaisseur": 0.2}),
}


@pytest.mark.parametrize("name", OUTCOMES)
def test_no_text_runs_out_of_the_page_or_over_another(
    name: str, drawn: list[tuple[str, tuple[float, float, float, float]]]
) -> None:
    summary_picture(network_input(), OUTCOMES[name])
    assert len(drawn) > 8
    for text, (left, top, right, bottom) in drawn:
        assert MARGIN - 2 <= left < right <= WIDTH - MARGIN + 2, text
        assert 0 <= top < bottom <= HEIGHT - 8, text
    for index, (one, a) in enumerate(drawn):
        for other, b in drawn[index + 1 :]:
            apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
            assert apart, (one, other)


def test_the_page_says_class_verdict_package_and_what_it_is_for(
    drawn: list[tuple[str, tuple[float, float, float, float]]],
) -> None:
    summary_picture(network_input(), READ)
    texts = [text for text, _ in drawn]
    page = " ".join(texts)
    for expected in (
        "Most probable class: HCM (0.87)",
        "Research use only. Not for diagnosis.",
        "The audit has too few patients of scanners like this one.",
        "7 patients; 10 are needed",
        "95 % interval 0.76 to 0.90",
        "cardiac_cine_student 0.5.0",
        PACKAGE.digest[:12],
        "REPEATED_SLICE",
        "2 of 11",
        "6 of 11",
    ):
        assert expected in page
    sizes = {text: box[3] - box[1] for text, box in drawn}
    assert max(sizes, key=lambda text: sizes[text]) in {
        "Research use only. Not for diagnosis.",
        "Most probable class: HCM (0.87)",
    }


def test_a_sentence_is_told_whole_or_not_at_all(drawn: list[tuple[str, tuple[float, float, float, float]]]) -> None:
    summary_picture(network_input(), OUTCOMES["many words"])
    words = [text for text, box in drawn if box[0] > WIDTH / 2 and box[1] > HEIGHT / 2]
    assert words[-1] == "More in result.json."
    assert words[-2].endswith(("patients", LONG.rsplit(maxsplit=1)[-1]))


def test_every_class_is_named_and_many_are_gathered(
    drawn: list[tuple[str, tuple[float, float, float, float]]],
) -> None:
    summary_picture(network_input(), _with_classes({f"class {n}": p for n, p in enumerate([0.4, 0.3, *[0.03] * 10])}))
    texts = [text for text, _ in drawn]
    assert {"class 0", "class 1", "5 other classes together", "0.40", "0.15"} <= set(texts)


def test_bars_are_as_long_as_probabilities_say() -> None:
    """Over the track's row, the share of coloured pixels is the probability."""
    picture = summary_picture(network_input(), _with_classes({"a": 0.25, "b": 0.75}))
    lengths = []
    for colour in ((84, 98, 116), (116, 168, 214)):
        rows = np.all(picture == colour, axis=-1).sum(axis=1)
        lengths.append(int(rows.max()))
    assert lengths[0] / lengths[1] == pytest.approx(1 / 3, abs=0.01)


@pytest.mark.parametrize("slices", [1, 8, 12, 40])
def test_each_slice_is_drawn_once_as_the_network_saw_it(slices: int) -> None:
    """Slices of one grey value each: the page must have each of them as often as the others, side by side."""
    image = np.broadcast_to(
        np.linspace(-1, 2, 2 * slices, dtype=np.float32).reshape(2, slices, 1, 1), (2, slices, 64, 64)
    )
    picture = summary_picture(image, READ)
    area = picture[105:415, MARGIN + LABEL_WIDTH :]
    wanted = np.round(255 * (image[..., 0, 0] + 1) / 3).astype(int)
    first = [np.argwhere(np.all(area == grey, axis=-1)) for grey in np.unique(wanted)]
    counts = {len(places) for places in first}
    assert len(counts) == 1
    assert counts.pop() > 0
    tops = [places[0, 0] for places in first]
    assert len(set(tops[:slices])) == len(set(tops[slices:])) == 1
    assert tops[0] < tops[-1]
    lefts = [places[0, 1] for places in first]
    assert lefts == sorted(lefts[:slices]) + sorted(lefts[slices:])


@pytest.mark.parametrize(("slices", "factor"), [(8, 2), (12, 1)])
def test_an_input_of_64_pixels_is_enlarged_by_a_whole_number(slices: int, factor: int) -> None:
    rng = np.random.default_rng(0)
    image = rng.choice(np.array([-1, 0.5, 2], np.float32), (2, slices, 64, 64))
    picture = summary_picture(image, READ)
    rows = np.round(255 * (image[0, 0] + 1) / 3).astype(np.uint8)
    enlarged = rows.repeat(factor, axis=0).repeat(factor, axis=1)
    left, side = MARGIN + LABEL_WIDTH, 64 * factor
    columns = picture[:, left : left + side, 0]
    assert sum(np.array_equal(columns[top : top + side], enlarged) for top in range(100, 240)) == 1


def test_the_same_reading_gives_the_same_pixels() -> None:
    np.testing.assert_array_equal(summary_picture(network_input(), READ), summary_picture(network_input(), READ))


def test_a_constant_input_can_be_drawn() -> None:
    assert summary_picture(np.zeros((2, 8, 64, 64), np.float32), READ).shape == (HEIGHT, WIDTH, 3)


def test_a_refusal_and_an_image_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="must have a reading"):
        summary_picture(network_input(), REFUSED)
    with pytest.raises(ValueError, match=r"\(2, slices, rows, cols\)"):
        summary_picture(network_input()[0], READ)
