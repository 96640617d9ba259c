"""Errors of the operating system while files are read: which are a file's own, which are the machine's.

A file's own makes a refusal: trying again would end the same. Any other is passed on: a study is not refused for a
disk that did not answer this moment. `evenbeat predict` fails then, `evenbeat datalist dicom` sets the study aside, and
the DICOM node tries it again.
"""

from __future__ import annotations

import errno

OF_A_FILE = frozenset(
    {
        *(errno.ENOENT, errno.ENOTDIR),  # it is gone, or never was
        *(errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG),  # what bears the name is no file
        *(errno.EINVAL, errno.EFBIG, errno.EOVERFLOW),  # its header leads to where no file reaches
    }
)
# With time, or with a person's help, they go, and every study is read as if nothing had been. An error that is in
# neither list is one that nobody thought of: it refuses nothing, and counts as an attempt.
OF_THE_MACHINE = frozenset(
    {
        *(errno.EIO, errno.EROFS, errno.ENODEV, errno.ENXIO),  # the disk
        *(errno.EACCES, errno.EPERM),  # a right: who lacks it for one slice would read the study without it
        *(errno.ENOSPC, errno.EDQUOT),  # room on it
        *(errno.ESTALE, errno.ETIMEDOUT, errno.EBUSY),  # a share on the network
        *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN),  # open files, memory, processes
    }
)


def pass_on(error: BaseException) -> None:
    """Raise an error again if the operating system's and not the file's own.

    Errors without a number are no words of the system's: gzip's, say, over bytes that it cannot unpack.
    """
    if isinstance(error, OSError) and error.errno is not None and error.errno not in OF_A_FILE:
        raise error
