from html.parser import HTMLParser

import numpy as np

from model import plots
from model.evaluation import Level, Sample, evaluate
from model.report import Page, render

VOID = {"meta", "img", "br", "link"}
NAMES = ("<script>alert(1)</script>", "a & b", '"quoted" $x_1$', "_hidden", "Zilpzalp – ちふちゃふ")


class Reader(HTMLParser):
    """Checks that tags are closed in order; gathers cells, images and other tags."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.text: list[str] = []
        self.images: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "img":
            self.images.append(dict(attrs)["src"] or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert not reader.open
    return reader


def level(labels: tuple[str, ...], n: int = 120, noun: str = "window") -> Level:
    rng = np.random.default_rng(1)
    truth = np.eye(len(labels), dtype=bool)[rng.integers(0, len(labels), n)]
    scores = rng.dirichlet(np.ones(len(labels)), n).astype(np.float32)
    known = np.ones_like(truth)
    sample = Sample(labels, labels, scores, truth, known, np.arange(n) // 4)
    return Level(noun, sample, evaluate(sample, dict.fromkeys(labels, 0.5), True, 20, 1))


def pictures(shown: Level) -> dict[str, bytes]:
    top = shown.result.top
    assert top is not None
    return {
        "Precision and recall": plots.precision_recall(shown.sample, shown.result),
        "Confusion matrix": plots.confusion_matrix(
            top.confusion, shown.sample.labels, shown.sample.outputs
        ),
        "Reliability": plots.reliability(shown.sample),
    }


def test_the_page_parses_needs_nothing_and_names_every_label() -> None:
    windows, clips = level(NAMES), level(NAMES, 40, "clip")
    page = Page(
        title="Evaluation of <b>birds</b>",
        about=("12 recordings & more",),
        warnings=["1 label was left out: <i>."],
        levels=[windows, clips],
        promises=None,
        events=None,
        plots={"window": pictures(windows), "clip": pictures(clips)},
        files=["labels.csv"],
    )
    reader = read(render(page))
    for name in NAMES:
        assert reader.text.count(name) >= 2
    assert {"Evaluation of <b>birds</b>", "1 label was left out: <i>."} <= set(reader.text)
    assert not {"script", "b", "i", "link"} & reader.tags
    assert len(reader.images) == 6
    assert all(source.startswith("data:image/png;base64,iVBOR") for source in reader.images)
    accuracy = windows.result.top and windows.result.top.accuracy
    assert any(text.startswith(f"{accuracy:.3f}") for text in reader.text)


def test_hundreds_of_labels_stay_usable() -> None:
    many = level(tuple(f"species {i}" for i in range(300)), 1200)
    images = pictures(many)
    page = Page("Many", (), [], [many], None, None, {"window": images}, [])
    html = render(page)
    assert set(many.sample.labels) <= set(read(html).text)
    for content in images.values():
        width, height = (int.from_bytes(content[at : at + 4]) for at in (16, 20))
        assert 300 < width < 2500 and 300 < height < 2500
    assert len(html) < 3_000_000


def test_training_curves_of_any_log() -> None:
    epochs = [{"epoch": i, "loss": 1 / i, "val_loss": None} for i in (1, 2, 3)]
    both = [{**entry, "val_loss": 0.5, "val_macro_average_precision": 0.1} for entry in epochs]
    alone = [{"epoch": 1, "loss": 1.0}]
    widths = []
    for histories in ([epochs], [epochs, both], [alone]):
        content = plots.training_curves(histories)
        assert content.startswith(b"\x89PNG")
        widths.append(int.from_bytes(content[16:20]))
    # Without validation there is no empty panel for it.
    assert min(widths[:2]) > 1.5 * widths[2]
