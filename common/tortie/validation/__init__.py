"""Whether objects are valid, as the API server with our CRDs would say, and whether they do what was meant.

Pure: texts and the CRDs are handed in, nothing is read here. From outer to inner:

- `documents.documents(text, file) -> Iterator[Document]`: YAML and JSON as kubectl reads them, `List`s unpacked, each
  document with its line. What cannot be read is a document with a problem.
- `validate.Validator(definitions).reports(documents) -> list[Report]`: for each document errors and warnings; a
  `Report` is what `tortie validate -o json` prints.
- `semantics.problems(document)`, and `semantics.of_record(record)`: what no CRD can say. It is all that the operator
  needs for what the API server has let in: the rest of an object has passed the CRDs by then.

`docs/design/validation.md` says why it is built like this.
"""
