"""Maven repositories, for Maven, Gradle, Ivy, sbt and their kin.

Files are kept as sent; metadata and checksums are made here, so that parallel deploys lose nothing.

Spec: Maven repository layout, metadata model 1.1, POM reference.
"""

from __future__ import annotations

from dataclasses import replace

from formats.contract import BLOB, Format, Route, Scope
from formats.maven import describing, mirroring, reading, writing
from formats.maven.releases import RELEASES
from formats.maven.upstream import REMOTE
from formats.maven.virtual import VIRTUAL

MAVEN = """\
<!-- ~/.m2/settings.xml -->
<settings>
  <servers>
    <server><id>{key}</id><username>{user}</username><password>{token}</password></server>
  </servers>
  <profiles>
    <profile>
      <id>{key}</id>
      <repositories>
        <repository><id>{key}</id><url>{url}</url></repository>
      </repositories>
      <pluginRepositories>
        <pluginRepository><id>{key}</id><url>{url}</url></pluginRepository>
      </pluginRepositories>
    </profile>
  </profiles>
  <activeProfiles><activeProfile>{key}</activeProfile></activeProfiles>
{http:  <!-- Maven blocks http: unless the mirror that does is replaced -->
  <mirrors>
    <mirror>
      <id>maven-default-http-blocker</id><mirrorOf>none</mirrorOf><url>{url}</url>
    </mirror>
  </mirrors>
}</settings>

<!-- mvn deploy:deploy-file -DrepositoryId={key} -Durl={url} -Dfile=a.jar -DpomFile=pom.xml -->
"""
GRADLE = """\
// build.gradle
repositories {{
    maven {{
        url = uri("{url}")
{http:        allowInsecureProtocol = true
}        credentials {{
            username = "{user}"
            password = "{token}"
        }}
    }}
}}
"""

FORMAT = Format(
    name="maven",
    keys=("maven", "gradle"),
    mounts=("/maven",),
    purl_type="maven",
    routes=(
        Route("GET", "/", reading.root),
        Route("GET", "/{path*}", reading.get),
        Route("PUT", "/{path*}", writing.put, Scope.WRITE, BLOB),
        Route("DELETE", "/{path*}", writing.delete, Scope.DELETE),
    ),
    checksums=("md5", "sha1", "sha512"),
    client_settings={"mvn": MAVEN, "gradle": GRADLE},
    remote=replace(REMOTE, wishes=mirroring.wishes, follow=mirroring.follow),
    virtual=VIRTUAL,
    releases=RELEASES,
    describe=describing.DESCRIBE,
    primary=("file",),
)
