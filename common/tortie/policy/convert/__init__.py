"""Users' objects → the one normal form (`tortie.api.compiled`)."""

from tortie.policy.convert.profiles import profile_of_namespace as profile_of_namespace
from tortie.policy.convert.profiles import profile_of_service_account as profile_of_service_account
