"""Everything between linear light and the picture: instruments, cameras, encoders, framing and truth maps.

NumPy and OpenCV, one picture at a time. Whatever is no part of an attack (exposure, colour, blur, noise, compression,
framing, background) is drawn from one distribution for live faces and attacks. Numbers are our own choice [C] unless
a source is named. Lengths on a scene are in face boxes: 1 is the longer side of the face's box.
"""
