"""The workshop of triage: reports whose truth is known, the training of the classifier, and the best possible."""
