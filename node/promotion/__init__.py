"""Promotion: releases of a staging repository enter another one, by rules."""
