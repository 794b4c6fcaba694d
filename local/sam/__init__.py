"""`make sam`: the functions in the Lambda image on a Docker engine."""
