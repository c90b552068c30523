"""Settings of the Django project, from the environment."""

import os
from urllib.parse import urlsplit

import deckwatch

_database = urlsplit(os.environ["DATABASE_URL"])
SECRET_KEY = os.environ.get("SECRET_KEY", "only for this example")
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = ["records"]
MIDDLEWARE = ["deckwatch.DjangoMiddleware"]
ROOT_URLCONF = "urls"
USE_TZ = True
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _database.path.lstrip("/"),
        "USER": _database.username,
        "PASSWORD": _database.password,
        "HOST": _database.hostname,
        "PORT": _database.port,
        "OPTIONS": {"connect_timeout": 2},
    }
}
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": os.environ["REDIS_URL"],
        "TIMEOUT": 300,
    }
}
LOGGING_CONFIG = None
deckwatch.setup_logging(file=os.path.join(os.environ["LOG_DIR"], "migration.json"))
