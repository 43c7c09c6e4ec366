"""Several labels an image, as list files write them: `dog,outdoor`, or a 0/1 column a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cyclemlp.errors import ConfigError, DataError
from cyclemlp.text import listed, shown

#: Any of them separates the labels of an image.
SEPARATORS = ",;|"
#: Stands where an image has no label.
NO_LABEL = "-"
#: The end of an error on several labels an image where one is expected.
WAY_OUT = (
    "several labels an image need --labels multi in training (`data.labels: multi` in a recipe), and in evaluation a "
    "model trained so"
)

_ONE, _ZERO = ("1", "1.0"), ("0", "0.0")
MOST_NAMES = 5


def label_set(text: str, place: str) -> tuple[str, ...]:
    """The labels in a text, none for an empty one and for `-`.

    Args:
        place: of the text, for the message: "train.txt:12".

    Raises:
        DataError: a label is empty, as in `dog,,cat`.
    """
    if text in ("", NO_LABEL):
        return ()
    for separator in SEPARATORS[1:]:
        text = text.replace(separator, SEPARATORS[0])
    labels = tuple(label.strip() for label in text.split(SEPARATORS[0]))
    if "" in labels:
        raise DataError(
            f"{place}: {shown(text)} has an empty label; an image without labels has `{NO_LABEL}`"
        )
    return labels


def holds_several(text: str) -> bool:
    """Whether a label is written as several."""
    return any(separator in text for separator in SEPARATORS)


def require_separable(names: Sequence[str]) -> None:
    """Raise ConfigError for names of classes that cannot be told apart in a list of several labels an image."""
    for name in names:
        if holds_several(name) or name == NO_LABEL:
            raise ConfigError(
                f"the class name {shown(name)} cannot be read where an image has several labels, which are separated "
                f"by {' '.join(SEPARATORS)} (and `{NO_LABEL}` is for none); rename the class"
            )


class ClassColumns:
    """The 0/1 columns of a CSV file, one a class.

    Args:
        head: the file's first row.
        image: the column of the images' names, which is no class.
        names: of the classes, in class order: other columns are ignored. None takes all columns, in their order.
        place: of the head, for messages: "train.csv:1".

    Attributes:
        classes: their names, in class order.
        columns: the place of each in a row.

    Raises:
        DataError: a class without a column, or with two; no column beside the images'.
    """

    def __init__(self, head: Sequence[str], image: int, names: Sequence[str] | None, place: str) -> None:
        cells = [cell.strip() for cell in head]
        places: dict[str, int] = {}
        for column, name in enumerate(cells):
            if column != image and places.setdefault(name, column) != column:
                raise DataError(f"{place}: the head names the column {shown(name)} more than once")
        self.classes = list(places) if names is None else list(names)
        missing = [shown(name) for name in self.classes if name not in places]
        if missing or not places:
            found = f"no column is called {listed(missing, MOST_NAMES)}" if missing else "there is no class"
            raise DataError(
                f"{place}: {found}; expected a label column, or one 0/1 column a class: `path,dog,cat`. "
                f"The head has {shown(', '.join(cells))}"
            )
        self.columns = [places[name] for name in self.classes]

    def word(self, row: Sequence[str], place: str) -> bytes:
        """A row's labels, a digit 0 or 1 a class. Raises DataError for another value, which may be no class at all."""
        word = bytearray()
        for name, column in zip(self.classes, self.columns, strict=True):
            cell = row[column].strip()
            if cell not in _ONE and cell not in _ZERO:
                raise DataError(
                    f"{place}: the column {shown(name)} has {shown(cell)}; expected 0 or 1. If it is no class, remove "
                    "it, or name the classes by --classes FILE"
                )
            word += b"1" if cell in _ONE else b"0"
        return bytes(word)

    @staticmethod
    def numbers(word: str) -> tuple[int, ...]:
        """The classes that a word of `word` holds."""
        return tuple(index for index, digit in enumerate(word) if digit == "1")


def numbered(labels: Sequence[str], numbers: Mapping[str, int]) -> tuple[int, ...]:
    """Labels as class numbers, rising, each once."""
    return tuple(sorted({numbers[label] for label in labels}))
