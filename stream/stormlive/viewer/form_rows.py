"""How the rows of a form are laid out: all labels equally wide, so that the fields of several boxes line up."""

from PySide6.QtWidgets import QCheckBox, QComboBox, QFormLayout, QGroupBox, QLabel, QVBoxLayout

from stormlive.viewer.fields import Field

_WIDEST = "Photons/ADU"


def choice(*names: str) -> QComboBox:
    """Return a choice among names."""
    box = QComboBox()
    box.addItems(names)
    box.setMinimumWidth(80)
    return box


def group(column: QVBoxLayout, title: str, *rows: Field | QCheckBox | tuple[str, QComboBox]) -> QFormLayout:
    """Add a box with these rows to a column, and return its layout."""
    box = QGroupBox(title)
    form = QFormLayout(box)
    form.setContentsMargins(9, 4, 9, 7)
    form.setVerticalSpacing(4)
    for row in rows:
        if isinstance(row, QCheckBox):
            form.addRow(row)
            continue
        name, field = (row.name, row) if isinstance(row, Field) else row
        label = QLabel(name)
        label.setMinimumWidth(label.fontMetrics().horizontalAdvance(_WIDEST))
        form.addRow(label, field)
    column.addWidget(box)
    return form
