# What we use of Debian's python3-bpfcc: the library itself, by ctypes. Each function returns -1 and sets errno.
from ctypes import CDLL

lib: CDLL
