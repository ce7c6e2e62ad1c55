"""A server of Hugging Face Inference Endpoints: the sound of a machine comes in, the verdict goes out.

    curl https://ENDPOINT --data-binary @pump.wav -H "Content-Type: audio/wav" -H "Authorization: Bearer TOKEN"

A request in JSON names the machine: {"inputs": "the sound file in base64", "parameters": {"machine": "pump_id_00"}}.
"""

import base64
from pathlib import Path
from typing import Any

from transformers import pipeline


# 100 MiB are 54 minutes of 16 kHz, 16 bit, mono.
MAX_BYTES = 100 * 2**20
TASK: Any = "anomalous-sound-detection"  # transformers lists its own tasks only


class EndpointHandler:
    """
    Judges the recording of a request.

    Args:
        path (`str`, *optional*): the model's directory, by default the one of this file.
    """

    def __init__(self, path: str = ""):
        # The code that is trusted lies beside this file.
        model = path or str(Path(__file__).resolve().parent)
        self.detect: Any = pipeline(TASK, model=model, trust_remote_code=True)

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """Judge the recording of a request.

        Args:
            data: `"inputs"`, a sound file as bytes or as text in base64, and `"parameters"`, a dictionary with `"machine"`
                and `"false_alarm_rate"`. Both parameters are optional; without a machine there is never an alarm.

        Returns:
            The pipeline's result, ready for JSON. `{"error": sentence}` for a request that cannot be answered.
        """
        try:
            return self.detect(sound_of(data), **parameters_of(data))
        # Of an impossible request, and of a package that reading this sound needs.
        except (ValueError, ImportError) as error:
            return {"error": str(error)}


def sound_of(data: dict[str, Any]) -> bytes:
    """Return the bytes of a request's sound file.

    Text is never an address or a path: a server must fetch and read nothing that a stranger names.

    Raises:
        ValueError: there is no sound, the text is no base64, or the file is too large.
    """
    sound = data.get("inputs") if isinstance(data, dict) else None
    if isinstance(sound, str):
        try:
            sound = base64.b64decode("".join(sound.split()), validate=True)
        except ValueError:
            raise ValueError(
                "inputs: the text is not base64. Send the bytes of a sound file, or its bytes in base64; addresses and paths "
                "are not taken."
            ) from None
    if not isinstance(sound, (bytes, bytearray)):
        raise ValueError("inputs: expected a sound file, as bytes or as text in base64.")
    if len(sound) > MAX_BYTES:
        raise ValueError(f"inputs: {len(sound)} bytes, expected at most {MAX_BYTES}. Cut the recording.")
    return bytes(sound)


def parameters_of(data: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of a request, as the pipeline takes them.

    Raises:
        ValueError: a parameter is unknown or of another type. The message names it.
    """
    parameters = data.get("parameters") or {}
    if not isinstance(parameters, dict) or not parameters.keys() <= {"machine", "false_alarm_rate"}:
        raise ValueError(f"parameters: {parameters!r:.200}, expected an object with machine and false_alarm_rate.")
    machine, rate = parameters.get("machine"), parameters.get("false_alarm_rate")
    if not isinstance(machine, (str, type(None))):
        raise ValueError(f"machine: {machine!r:.200}, expected the name of a machine.")
    if isinstance(rate, bool) or not isinstance(rate, (int, float, type(None))):
        raise ValueError(f"false_alarm_rate: {rate!r:.200}, expected a number between 0 and 1.")
    return {"machine": machine, "false_alarm_rate": rate}
