# The plain student of the pair with the MobileNetV2 teacher; the same network and schedule as student.py.
_base_ = './student.py'
