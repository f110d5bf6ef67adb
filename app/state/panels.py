"""Keys of the popovers and sections whose inside is drawn only while they are open."""

SHARE = "share"
EXPLAINED = "explained"
STUDY = "study"
SETTINGS = "settings"
LEARNED = "learned"
POLICY = "policy_panel"
TARGETS = "targets_panel"
