"""Human names of species, data sets, domains, and of the values by which figures are broken down.

A name that these tables do not know, such as one of the user's own data, is shown as it is.
"""

import re
from collections.abc import Collection

SPECIES = {
    "live": "Live face",
    "print": "Print",
    "replay": "Replay",
    "cut": "Cut photograph",
    "mask": "Mask",
    "attack": "Attack of no named kind",
}
INSTRUMENTS = {"print": "printer", "replay": "display"}  # numbered by OULU-NPU and what is simulated after it
DATASETS = {
    "oulu": "OULU-NPU",
    "casia": "CASIA-FASD",
    "replay": "Replay-Attack",
    "msu": "MSU-MFSD",
    "siw": "SiW",
    "nuaa": "NUAA",
    "celeba": "CelebA",
    "celeba_spoof": "CelebA-Spoof",
    "simulated": "simulated faces",
    "simulated_identity": "simulated people",
    "folder": "folder of pictures",
    "csv": "table of pictures",
}
# Boulkenafet et al., OULU-NPU, FG 2017, section II.
OULU_PHONES = {
    "1": "Samsung Galaxy S6 edge",
    "2": "HTC Desire EYE",
    "3": "Meizu X5",
    "4": "Asus Zenfone Selfie",
    "5": "Sony Xperia C5 Ultra Dual",
    "6": "Oppo N3",
}
COLUMNS = {
    "domain": "Domain",
    "sensor": "Phone or camera",
    "session": "Session",
    "medium": "Printer or display",
    "light": "Light",
    "environment": "Place",
    "support": "How it was held",
}


def column(name: str) -> str:
    """'sensor' -> 'Phone or camera'; an attribute's name without underscores: 'Dark_Skin' -> 'Dark Skin'."""
    return COLUMNS.get(name, name.replace("_", " "))


def species(name: str) -> str:
    """'print1' -> 'Print, printer 1'; 'replay' -> 'Replay'."""
    if found := re.fullmatch(r"(print|replay)(\d+)", name):
        return f"{SPECIES[found[1]]}, {INSTRUMENTS[found[1]]} {found[2]}"
    return SPECIES.get(name, name)


def domain(name: str) -> str:
    """'oulu' -> 'OULU-NPU'; 'simulated-oulu' -> 'simulated after OULU-NPU'."""
    before, _, like = name.partition("-")
    if before == "simulated" and like in DATASETS:
        return f"simulated after {DATASETS[like]}"
    return DATASETS.get(name, name)


def domains(names: Collection[str]) -> str:
    """The human names, joined by commas."""
    return ", ".join(map(domain, names))


def value(column: str, name: str, datasets: Collection[str]) -> str:
    """The human name of a value of one of `COLUMNS`: 'sensor', '3', ['simulated'] -> 'Phone 3'.

    The values 0 and 1 of another column, an attribute, are 'no' and 'yes'.

    datasets: the data sets that the value is from; only OULU-NPU, and what is simulated after it, number phones.
    """
    if column == "domain":
        return domain(name)
    if not name.isdecimal():
        return name
    if column not in COLUMNS:
        return {"0": "no", "1": "yes"}.get(name, name)
    phones = all(of == "oulu" or of.startswith("simulated") for of in datasets)
    if column == "sensor":
        model = f" ({OULU_PHONES[name]})" if set(datasets) == {"oulu"} and name in OULU_PHONES else ""
        return f"{'Phone' if phones else 'Camera'} {name}{model}"
    return f"{COLUMNS.get(column, column)} {name}" if column == "session" or (phones and column == "medium") else name
