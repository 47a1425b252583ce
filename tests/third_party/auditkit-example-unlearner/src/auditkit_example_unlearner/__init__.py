"""An unlearner for auditkit in a package of its own."""

from auditkit_example_unlearner.row_shrink import RowShrink as RowShrink
