# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A public key made for tests, which signs nothing."""

from __future__ import annotations

# As gpg --export --armor wrote it, and the fingerprint that gpg --list-keys shows.
FINGERPRINT = "F9CB05FB63B0DBCA6FDD1AD7B3CBF67DF4517693"
KEY = """-----BEGIN PGP PUBLIC KEY BLOCK-----

mQENBGsHi6cBCACm8PaWWulij5BU1vK0KIoIE65UJKr+DYZQzTX7I2RKGvQokQe4
4EyfLcMR3lwnJRIU03VvroLh2QOOl5dz29qPmkBaGpQzQ1+JcyRr11jPGWDAvT4e
fiBcaXyQmsvcFeq5dSA4IUmnHW1BTELAyjDYPCgz1SN8eiv3tKjkZ6GB35Qzrv7D
IPjWcjR7IKhOZgHcwi3NNj7e93MiN+j/IZ8oIDoTShbFMLG9Mdlx1xwQ/HiceEA/
wL0e+bvwqdUCXvHpINWo3Z0pullxmP4y4KQXVehxaF3jy2wZXwrC5rOYYTNUm+pR
3DU+mAw67XCM0WdpTS0wxTdnRD96SxZnbuxFABEBAAG0BHRlc3SJAU4EEwEKADgW
IQT5ywX7Y7Dbym/dGtezy/Z99FF2kwUCaweLpwIbAwULCQgHAgYVCgkICwIEFgID
AQIeAQIXgAAKCRCzy/Z99FF2k6niB/944zQNqNevi7ObgUnpmg6VZ16Ndj9y+dCe
Z9EeMQgdIB2v98im7Ge2Pmlbv99fD91e0NBq7nqOkfqM4jc5bIN15GTWjtVVwSYG
UebbMvf+lzebAMvLR0q7Xq+WWZ8/684qF1zCiCRqxiuluwv5kKEPKglkckk1E3if
5bq7yw5ex9WLBwIPGFF1lFzbf5MeQPq7rGcrFF8PEW1EZ3WkVq7uAS4cqzq4i0jK
rTrtkXpdamE1bdoGKRNiTGmv722rOSLMug7QQDYTllXiduGbfmbYjG2E5QJrMoDR
Iu/lGD0Vhs8sAZp20PI7dF1Rw6J02FT7ByxyiO6rHnrkZvxKToNg
=47dn
-----END PGP PUBLIC KEY BLOCK-----
"""
