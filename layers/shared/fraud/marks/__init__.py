"""Marks: a risk that is put on an account in advance, by the shape of the component that it sits in."""
