"""The one exception that stands for a user's mistake."""


class InputError(ValueError):
    """What was given cannot be used; the message is one line naming the file, the record and the
    remedy.

    The command line prints it as `detnet: error: …` and ends with exit code 2. Everything else
    that escapes is a defect of ours and keeps its traceback.
    """
