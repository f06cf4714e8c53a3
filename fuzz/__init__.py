"""The packet path under random sequences of frames, judged by a reference that shares no code and no idea with it.

``ground`` runs frames through the loaded programs, ``sequences`` and ``mutations`` make them, ``reading`` reads them as
strictly as the standards allow, ``judge`` says what may never happen, ``cases`` keeps what did happen.
"""
