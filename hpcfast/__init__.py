"""Fast adversarial training of robust image classifiers, on one machine or many nodes.

The system of Goodwin, Brown and Helus, "Fast Training of Deep Neural Networks Robust to Adversarial
Perturbations" (IEEE HPEC 2020, arXiv 2007.03832): one-step adversarial training with a random start, for the
L-infinity and the Euclidean norm, distributed with Horovod. Start with ``hpcfast --help``.
"""

__version__ = "0.1.0"
