"""LitServe with dynamic batching."""

import sys

import litserve
import numpy as np
from fastapi import Request
from model import Model


class Api(litserve.LitAPI):
    """The stages that LitServe calls."""

    def setup(self, device):
        self.model = Model()

    def decode_request(self, request: Request):
        return self.model.decode(request["file"].file)

    def batch(self, inputs):
        return np.stack(inputs)

    def predict(self, pixels):
        return self.model.run(pixels)

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return output


if __name__ == "__main__":
    api = Api(max_batch_size=8, batch_timeout=0.005)
    litserve.LitServer(api, accelerator="cpu").run(
        port=int(sys.argv[1]), generate_client_file=False, log_level="warning"
    )
