"""From a host name to `gen_ai.provider.name` (GenAI conventions, well-known values; others as the providers say).

A host that is not listed (a gateway, localhost) is what its dialect's inventor is: the conventions ask for the
"best knowledge", and a vLLM that speaks OpenAI's dialect is told apart by `server.address`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

_BY_SUFFIX: Final[Mapping[str, str]] = {
    "api.openai.com": "openai",
    "openai.azure.com": "azure.ai.openai",
    "cognitiveservices.azure.com": "azure.ai.openai",
    "services.ai.azure.com": "azure.ai.inference",
    "models.ai.azure.com": "azure.ai.inference",
    "api.anthropic.com": "anthropic",
    "amazonaws.com": "aws.bedrock",
    "api.aws": "aws.bedrock",
    "api.groq.com": "groq",
    "api.deepseek.com": "deepseek",
    "api.x.ai": "x_ai",
    "api.mistral.ai": "mistral_ai",
    "api.perplexity.ai": "perplexity",
    "api.moonshot.ai": "moonshot_ai",
    "api.moonshot.cn": "moonshot_ai",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "api.cohere.com": "cohere",
    "api.cohere.ai": "cohere",
    "openrouter.ai": "openrouter",
    "api.together.xyz": "together",
    "api.together.ai": "together",
    "api.fireworks.ai": "fireworks",
    "api.cerebras.ai": "cerebras",
    "ml.cloud.ibm.com": "ibm.watsonx.ai",
    "replicate.com": "replicate",
    "replicate.net": "replicate",
    "api.writer.com": "writer",
    "snowflakecomputing.com": "snowflake",
    "huggingface.co": "huggingface",
    "endpoints.huggingface.cloud": "huggingface",
    "cloud.databricks.com": "databricks",
    "azuredatabricks.net": "databricks",
    "gcp.databricks.com": "databricks",
    "databricksapps.com": "databricks",
    "aip.baidubce.com": "baidu",
    "qianfan.baidubce.com": "baidu",
    "dashscope.aliyuncs.com": "alibaba_cloud",
    "dashscope-intl.aliyuncs.com": "alibaba_cloud",
    "dashscope-us.aliyuncs.com": "alibaba_cloud",
    "api.minimax.io": "minimax",
    "api.minimaxi.com": "minimax",
    "api.minimax.chat": "minimax",
    "api.cloudflare.com": "cloudflare",
    "hunyuan.tencentcloudapi.com": "tencent",
    "api.dify.ai": "dify",
    "api.coze.com": "coze",
    "api.coze.cn": "coze",
    "oci.oraclecloud.com": "oci",
}


def hosts_of(provider: str) -> tuple[str, ...]:
    """The hosts of a provider: each stands for itself and for all below it."""
    return tuple(host for host, name in _BY_SUFFIX.items() if name == provider)


@lru_cache(maxsize=256)  # hosts are few; the cap is for a client that talks to generated names
def provider_of(host: str, default: str) -> str:
    """The provider behind a host.

    Args:
        host: host name of the server.
        default: the inventor of the dialect that is spoken there.
    """
    labels = host.lower().rstrip(".").split(".")
    for start in range(len(labels)):
        found = _BY_SUFFIX.get(".".join(labels[start:]))
        if found:
            return found
    # Vertex has one host per region: us-central1-aiplatform.googleapis.com.
    return "gcp.vertex_ai" if host.lower().endswith("-aiplatform.googleapis.com") else default
