"""Total energies of free atoms with all their electrons, H to U, from NIST.

They tell where the E0s of an all-electron code lie, to about a hundredth: other functionals differ
by that, and relativity adds up to a tenth for the heaviest elements.

Source: the LSD column (local spin density, not relativistic) of the neutral atoms in NIST's Atomic
Reference Data for Electronic Structure Calculations (SRD 141),
https://www.nist.gov/pml/atomic-reference-data-electronic-structure-calculations; Kotochigova,
Levine, Shirley, Stiles and Clark, Phys. Rev. A 55, 191 (1997).
"""

import hashlib

from lora.catalogue.elements import SYMBOLS

# minus the total energy, Hartree, in the order of the atomic numbers
_BINDING = """
    0.478671 2.834836 7.343957 14.447209 24.353614 37.470031 54.136799 74.527410 99.114192
    128.233481 161.447625 199.139406 241.321156 288.222945 340.005794 396.743948 458.671463
    525.946195 598.206032 675.742283 758.685248 847.303463 941.742204 1042.218348 1148.644093
    1261.223291 1380.167299 1505.615106 1637.793358 1776.573850 1921.851924 2073.829860
    2232.587154 2398.134930 2570.626651 2750.147940 2936.342160 3129.453161 3329.525142
    3536.757227 3751.295618 3973.162595 4202.325611 4439.044607 4683.334925 4935.368406
    5195.037351 5462.390982 5737.313809 6019.972345 6310.419326 6608.650476 6914.777857
    7228.856107 7550.561866 7880.111578 8217.579298 8563.372995 8917.715777 9280.405670
    9651.636319 10031.483696 10420.023146 10817.015588 11223.108038 11637.977781 12061.832318
    12494.746152 12936.793549 13388.048594 13848.234767 14317.512212 14795.927133 15283.526874
    15780.360135 16286.375492 16801.722861 17326.590110 17860.796573 18404.274220 18956.962102
    19519.010773 20090.453943 20671.273855 21261.559507 21861.346869 22470.323520 23088.688083
    23716.500662 24353.847359 25001.320237 25658.474515
"""
FREE_ATOMS: dict[str, float] = {  # Hartree
    symbol: -float(value) for symbol, value in zip(SYMBOLS, _BINDING.split(), strict=False)
}
EDITION = hashlib.sha256(_BINDING.encode()).hexdigest()[:16]  # of the table, for what depends on it
