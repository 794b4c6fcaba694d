"""models/serving/inference.py behind the Transformer of the toolkit `sagemaker-inference`, in a process of its own.

The toolkit's interpreter runs this file. It reads requests, one a line of JSON, and writes a response for each. The
toolkit's own HTTP server is a Java program, multi-model-server; here a pipe stands for it. inference.py stands in the
code directory of the model, as a framework container unpacks it.
"""

import base64
import json
import sys


class Context:
    """The part of the Java server's context that the toolkit reads and sets."""

    def __init__(self, model_dir: str, content_type: str = "") -> None:
        self.status = 200
        self.system_properties = {"model_dir": model_dir}
        self.request_processor = [self]
        self._properties = {"Content-Type": content_type, "Accept": "application/json"}

    def get_request_properties(self) -> dict[str, str]:
        """Return the headers of the request."""
        return self._properties

    def set_response_content_type(self, place: int, content_type: str) -> None:
        """Ignore the content type."""

    def set_response_status(self, code: int, phrase: str) -> None:
        """Keep the status of an error, whose words are in the response."""
        del phrase
        self.status = code


def main() -> None:
    from sagemaker_inference.default_handler_service import (  # noqa: PLC0415 - only the toolkit's environment has it
        DefaultHandlerService,
    )

    (model_dir,) = sys.argv[1:]
    service = DefaultHandlerService()
    service.initialize(Context(model_dir))
    for line in sys.stdin:
        asked = json.loads(line)
        context = Context(model_dir, asked["content_type"])
        (text,) = service.handle([{"body": base64.b64decode(asked["body"])}], context)
        sys.stdout.write(json.dumps({"status": context.status, "body": text}) + "\n")


if __name__ == "__main__":
    main()
