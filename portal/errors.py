"""The one exception that carries a sentence for people.

A face prints it as it is; everything else that escapes is our bug and is treated as one.
"""


class UserError(Exception):
    """Something a person can put right: one plain sentence saying what, the value seen and what was
    expected. The command line prints it on stderr and leaves with exit status 1; over the control
    socket it travels as text. It never holds a secret or a voucher code.
    """
