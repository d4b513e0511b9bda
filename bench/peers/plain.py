"""FastAPI with Pillow and ONNX Runtime in an async handler."""

import sys

import uvicorn
from fastapi import FastAPI, UploadFile
from model import Model

app, model = FastAPI(), Model()


@app.post("/predict")
async def predict(file: UploadFile) -> dict:
    """Classify an image."""
    return model.run(model.decode(file.file)[None])[0]


uvicorn.run(app, port=int(sys.argv[1]), access_log=False, log_level="warning")
